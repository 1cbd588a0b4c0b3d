"""The dashboard for Grafana uses metrics and labels that exist, and only those."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.health.disk import DiskStatus
from streamer.health.program_status import EngineStatus
from streamer.health.prometheus import render
from streamer.health.reports import Condition
from streamer.notify import ChannelStatus
from streamer.store import Backlog
from tests.support.stepping import START

from .test_program_status import link, report, status, task

CONFIGS = Path(__file__).parents[3] / "configs"
DASHBOARD = json.loads((CONFIGS / "grafana-dashboard.json").read_text())


def everything():
    """A status in which nothing is unknown, so that no metric is left out."""
    return status(
        report(links=(link("north/detect"),), source_lag_s=0.5),
        services=[task(name="delivery")],
        channels=[ChannelStatus("ops")],
        backlog={"ops": Backlog(1, 1, START)},
        engines=[EngineStatus(engine="smoke", backend="b", device="cpu", degraded=False, reason="",
                              building=0.5)],
        disk=DiskStatus(path="/d", state="ok", reason="", free_bytes=1, total_bytes=2),
        conditions=[Condition("clock", "not set", 0)],
    )  # fmt: skip


def exposed() -> dict[str, set[str]]:
    """The labels of each sample, by its name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(render(everything()).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries() -> list[str]:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [
        one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"
    ]
    return [*targets, *variables, *(one["expr"] for one in DASHBOARD["annotations"]["list"])]


@pytest.mark.parametrize("query", queries())
def test_a_query_uses_metrics_and_labels_that_exist(query):
    metrics = exposed()
    used = re.findall(r"streamer_\w+", query)
    assert used
    assert set(used) <= metrics.keys()
    known = set.union(*(metrics[name] for name in used))
    labels = set(re.findall(r'(\w+)(?:=~|!=|=)"', query))
    for group in re.findall(r"by \(([^)]*)\)", query):
        labels |= {label.strip() for label in group.split(",")}
    assert labels <= known


def test_legends_name_labels_that_the_query_keeps():
    metrics = exposed()
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            (name, *_) = re.findall(r"streamer_\w+", target["expr"])
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            known = {each.strip() for each in kept[0].split(",")} if kept else metrics[name]
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not own & cells
        assert max(x for x, _ in own) < 24
        cells |= own
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_readme_documents_every_metric():
    text = (Path(render.__code__.co_filename).parent / "README.md").read_text()
    spelled = re.sub(
        r"(\w+)\{([\w,]+)\}(\w*)",
        lambda match: " ".join(match[1] + one + match[3] for one in match[2].split(",")),
        text,
    )
    names = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exposed()}
    missing = [name for name in sorted(names) if name not in spelled]
    assert missing == []
