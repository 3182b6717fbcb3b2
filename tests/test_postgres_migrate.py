"""The migrations: once each, in order, and never on a database that they do not fit."""

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from streamlens.errors import BadSetting
from streamlens.postgres.identity import claim
from streamlens.postgres.migrate import DIRECTORY, migrate


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DIRECTORY, tmp_path / "migrations"))


async def test_each_is_applied_once_and_rows_survive_the_second_run(empty_dsn: str) -> None:
    names = sorted(file.name for file in DIRECTORY.glob("*.sql"))
    assert await migrate(empty_dsn) == names
    await claim(empty_dsn, "log-1")
    assert await migrate(empty_dsn) == []
    await claim(empty_dsn, "log-1")


async def test_a_new_one_is_applied_alone(empty_dsn: str, copied: Path) -> None:
    await migrate(empty_dsn, copied)
    (copied / "900_more.sql").write_text("create table more (n int)")
    assert await migrate(empty_dsn, copied) == ["900_more.sql"]


async def test_processes_that_start_together_apply_each_once(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_dsn) for _ in range(5)))
    assert sorted(len(names) for names in applied) == [0, 0, 0, 0, len(list(DIRECTORY.glob("*.sql")))]


async def test_a_failing_one_leaves_nothing_of_itself(empty_dsn: str, copied: Path) -> None:
    (copied / "900_broken.sql").write_text("create table half (n int); select no_such_function();")
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await migrate(empty_dsn, copied)
    (copied / "900_broken.sql").write_text("create table half (n int)")
    assert await migrate(empty_dsn, copied) == ["900_broken.sql"]


async def test_a_changed_one_is_refused(empty_dsn: str, copied: Path) -> None:
    await migrate(empty_dsn, copied)
    file = copied / "003_llm_ledger.sql"
    file.write_text(file.read_text() + "\n-- changed\n")
    with pytest.raises(BadSetting, match=r"003_llm_ledger\.sql was changed"):
        await migrate(empty_dsn, copied)


async def test_a_database_of_a_newer_version_is_refused(empty_dsn: str, copied: Path) -> None:
    await migrate(empty_dsn, copied)
    (copied / "003_llm_ledger.sql").unlink()
    with pytest.raises(BadSetting, match=r"003_llm_ledger\.sql, which this version does not know"):
        await migrate(empty_dsn, copied)


async def test_one_that_comes_before_an_applied_one_is_refused(empty_dsn: str, copied: Path) -> None:
    await migrate(empty_dsn, copied)
    (copied / "002_between.sql").write_text("select 1")
    with pytest.raises(BadSetting, match=r"002_between\.sql comes before 002_llm_metrics\.sql"):
        await migrate(empty_dsn, copied)


async def test_no_migrations_at_all_is_an_incomplete_installation(empty_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="incomplete"):
        await migrate(empty_dsn, tmp_path)


async def test_a_database_belongs_to_one_log(dsn: str) -> None:
    await claim(dsn, "log-1")
    with pytest.raises(BadSetting, match="come from the log log-1, not from log-2"):
        await claim(dsn, "log-2")
