"""A short run of the chaos suite, the same one each time; `make chaos` runs longer ones."""

from chaos.run import Run

SEED = 4
MINUTES = 2


async def test_whatever_breaks_every_row_is_exact() -> None:
    result = await Run(SEED, MINUTES, workers=3, rate=600).result()
    assert result.wrong == []
    assert result.faults.total() > 15
    assert {name.partition("_")[0] for name in result.faults} >= {"worker", "broker", "postgres"}
