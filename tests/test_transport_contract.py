"""What we override or call of Faust's and aiohttp's underscore methods: a release that changes one fails here first."""

import inspect
from collections.abc import Callable
from typing import Any

import aiohttp.web_runner
import faust
import mode
import pytest
from faust.tables.manager import TableManager as FaustTableManager
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer as FaustConsumer
from faust.web.drivers import aiohttp as faust_aiohttp

from streamlens.app import app
from streamlens.transports.local import Consumer, Producer, Transport
from streamlens.transports.tables import TableManager
from web.driver import Web


def parameters(method: Callable[..., Any]) -> str:
    return ", ".join(inspect.signature(method).parameters)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (FaustConsumer._getmany, "self, active_partitions, timeout"),
        (FaustConsumer._seek, "self, partition, offset"),
        (FaustConsumer._commit, "self, offsets"),
        (FaustConsumer._new_topicpartition, "self, topic, partition"),
        (FaustConsumer._get_active_partitions, "self"),
        (FaustConsumer.perform_seek, "self"),
        (FaustTableManager._update_channels, "self"),
        (FaustTableManager.on_rebalance, "self, assigned, revoked, newly_assigned, generation_id"),
        (FaustTableManager.on_partitions_revoked, "self, revoked"),
        (Recovery._resume_streams, "self, generation_id"),
        (mode.Service._crash, "self, reason"),
        (faust.App.on_first_start, "self"),
        (faust_aiohttp.Web.route, "self, pattern, handler, cors_options"),
        (aiohttp.web_runner.AppRunner._make_server, "self"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signatures(method: Callable[..., Any], expected: str) -> None:
    assert parameters(method) == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Consumer, FaustConsumer), (TableManager, FaustTableManager), (Web, faust_aiohttp.Web)],
)
def test_overrides_take_what_faust_passes(ours: type, theirs: type) -> None:
    for name, method in vars(ours).items():
        inherited = getattr(theirs, name, None)
        if not inspect.isfunction(method) or inherited is None or name == "__init__":
            continue
        given = inspect.signature(inherited).parameters.values()
        inspect.signature(method).bind(
            *[object() for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        )


def test_nothing_abstract_is_left() -> None:
    for part in (Consumer, Producer, Transport):
        assert not getattr(part, "__abstractmethods__", None)


def test_faust_sees_both_tables_and_their_changelogs() -> None:
    app.discover()
    assert {name: table.changelog_topic.get_topic_name() for name, table in app.tables.items()} == {
        "pending": f"{app.conf.id}-pending-changelog",
        "windows": f"{app.conf.id}-windows-changelog",
    }
    assert [stage.changelog for stage in app.runtime.stages] == [
        f"{app.conf.id}-pending-changelog",
        f"{app.conf.id}-windows-changelog",
    ]


def test_a_run_is_one_message_and_is_not_acknowledged() -> None:
    app.discover()
    for agent in app.agents.values():
        assert agent.channel.acks is False
