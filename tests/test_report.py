"""The report is one offline page whose every text stays text, and the live page is for us alone."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dashboards import live
from dashboards._opening import verdict
from dashboards._points import points
from dashboards._repeats import difference
from dashboards._sections import front_table
from dashboards._verdict import against, findings, standard_error
from made_record import HOSTILE, hostile, many, one, trial, zero
from nasx.errors import NasxError
from nasx.quantity import amount, brief, count, duration, sparkline
from nasx.report import finite, page, report, script
from nasx.trial import Snapshot, State

Pages = dict[str, tuple[Snapshot, str]]


class Page(HTMLParser):
    """Elements, attributes, visible text and the JSON scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words = ""
        self._open: str = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._open != "style":
            self.words += data

    def data(self) -> dict:
        return json.loads(next(text for kind, text in self.scripts if kind.get("id") == "data"))


KINDS = {"zero": zero, "one": one, "many": many, "hostile": hostile}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """The record and the page of each kind, with a word in place of Plotly's 4.8 MB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly */")
        records = {kind: make(tmp_path_factory.mktemp(kind)) for kind, make in KINDS.items()}
        return {kind: (record, page(record)) for kind, record in records.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_loaded_from_anywhere(kind: str, pages: Pages) -> None:
    found = Page(pages[kind][1])
    loading = [a for a in found.attributes if a[1] in ("src", "href", "data", "action", "srcset")]
    assert not loading
    assert not {"link", "iframe", "object", "embed", "base", "form", "img"} & set(found.tags)
    policy = next(v for t, n, v in found.attributes if n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("kind", KINDS)
def test_every_json_in_the_page_parses_back(kind: str, pages: Pages) -> None:
    record, text = pages[kind]
    found = Page(text)
    data = found.data()
    originals = [t for t in record.trials if t.searched]
    assert [t["name"] for t in data["trials"]] == [t.name for t in originals]
    for kind, text in found.scripts:
        if kind.get("class") == "figure":
            drawn = json.loads(text)
            assert not [t["type"] for t in drawn["data"] if "gl" in t["type"] or "par" in t["type"]]


def test_hostile_texts_stay_text(pages: Pages) -> None:
    text = pages["hostile"][1]
    assert "<img" not in text
    found = Page(text)
    assert HOSTILE in found.words  # the title and the question, as text
    assert found.data()["study"]["desc"] == HOSTILE
    assert found.tags.count("script") == len(found.scripts)


def test_the_page_tells_the_whole_story(pages: Pages) -> None:
    words = Page(pages["many"][1]).words
    for part in (
        "What does a made study show?", "0123456789ab", "5:41", "2 times", "A processor",
        "torch 2.13.0", "12: 7 full, 2 stopped, 1 failed; and 2 replicates and 3 controls",
        "Knee", "Most accurate", "Smallest", "ValueError: <b>bad</b>",
        "2.00 M to 4.00 M", "2 trials are unfinished", "900 test images",
    ):  # fmt: skip
        assert part in words, part


def test_what_a_space_says_of_its_results_is_shown(pages: Pages) -> None:
    """The search writes it into the record, so that the page needs no code of the space."""
    kept = "<strong>tinynet</strong>: Small networks &lt;only&gt;."
    assert "Keep in mind" in pages["many"][1]
    assert kept in pages["many"][1]
    assert "Keep in mind" not in pages["one"][1]


def test_an_empty_run_says_so_in_sentences(pages: Pages) -> None:
    words = Page(pages["zero"][1]).words
    for part in (
        "No network has been fully trained", "The front is empty.", "No trial failed.",
        "No candidate was refused", "Nothing has been proposed yet.",
    ):  # fmt: skip
        assert part in words


def test_the_pane_has_what_a_click_shows(pages: Pages) -> None:
    data = Page(pages["many"][1]).data()
    t3 = data["trials"][3]
    assert t3["shown"]["macs"] == "8.00 M"
    assert t3["shown"]["latency_ms"] == "0.800 ms"
    assert t3["measured"]
    assert not data["trials"][4]["measured"]
    assert t3["test"] == {"top1": 87.0}
    assert [layer["name"] for layer in t3["layers"]] == ["stem", "stages.0", "head"]
    assert t3["curve"][-1]["samples"] == 9000
    assert data["axes"]["macs"]["standing"] == "counted"
    assert data["axes"]["latency_ms"]["standing"] == "measured"
    assert set(data["usable"]) >= {"top1", "macs", "params", "latency_ms"}


def test_the_verdict_gives_numbers_with_their_uncertainty(tmp_path: Path) -> None:
    record = many(tmp_path)
    cards = {card.label: card for card in findings(record, record.study)}
    best = cards["Most accurate"]
    assert (best.number, best.headline) == (3, "87.0 %")
    # sqrt(.87 * .13 / 900) = 1.12 points
    assert best.beside == "± 1.1 top-1 accuracy on test"
    assert standard_error("top1", 87.0, record, "test") == pytest.approx(1.121, abs=1e-3)
    assert "8.0 points better than the baseline t0000 on valid" in best.sentences[1]
    assert "2.0 × its MACs" in best.sentences[1]
    assert cards["Smallest"].number == 1


def test_a_difference_within_noise_is_called_so(tmp_path: Path) -> None:
    record = many(tmp_path)
    found = {p.number: p for p in points(record, record.study)}
    assert "within two standard errors" in against(found[2], found[0], record, record.study)
    assert "within two standard errors" not in against(found[3], found[0], record, record.study)
    assert against(found[0], found[0], record, record.study) == "This is the baseline itself."
    assert "was not trained fully" in against(found[3], found[7], record, record.study)


def test_without_the_size_of_the_split_no_error_is_invented(tmp_path: Path) -> None:
    record = replace(many(tmp_path), provenance={})
    assert standard_error("top1", 80.0, record, "test") is None
    cards = findings(record, record.study)
    assert "does not state the size of the test split" in verdict(cards, record)
    assert "±" not in cards[0].beside


def test_provisional_latency_is_labelled(tmp_path: Path) -> None:
    record = replace(many(tmp_path), finals={})
    assert "(provisional)" in findings(record, record.study)[0].sentences[0]
    assert "provisional</small>" in front_table(record, record.study)


def test_report_writes_one_file_with_plotly_once(
    tmp_path: Path,
) -> None:
    record = one(tmp_path / "run")
    path = report(record)
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text()
    assert 4e6 < len(text) < 7e6
    assert text.count("plotly.js v") == 1
    assert [f.name for f in path.parent.iterdir()] == ["report.html"]
    assert report(record, tmp_path / "elsewhere" / "a.html").is_file()


def test_there_is_no_report_of_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(NasxError, match="no run here"):
        report(tmp_path)


def test_script_keeps_json_inside_its_element() -> None:
    value = {"a": HOSTILE, "b": [float("nan"), float("inf"), 1.5], "c": State.COMPLETE}
    text = script(value)
    assert not {"<", ">", "&", "\u2028"} & set(text)
    assert json.loads(text) == {"a": HOSTILE, "b": [None, None, 1.5], "c": "COMPLETE"}
    assert finite({1: Path("x")}) == {"1": "x"}


def test_numbers_are_written_for_people() -> None:
    assert amount("macs", 12_345_678) == "12.3 M"
    assert amount("latency_ms", 0.4239) == "0.424 ms"
    assert amount("top1", 88.123) == "88.1 %"
    assert amount("bytes", 480_000) == "480 kB"
    assert amount("bytes", 12) == "12 B"
    assert amount("energy_uj", 6.389) == "6.39 µJ"
    assert amount("ssim", 0.91234) == "0.9123"
    assert amount("psnr", 33.657) == "33.66 dB"
    score = {"difference": -0.034, "low": -0.051, "high": 0.02}
    assert difference(score, "psnr") == "−0.03 dB (−0.05 to +0.02)"
    assert amount("ap50", 42.36) == "42.4 %"
    assert amount("macs", None) == amount("macs", float("nan")) == "–"
    assert count(999_600) == "1.00 M"
    assert brief(12_000) == "12 k"
    assert brief(250) == "250"
    assert duration(3_725) == "1:02:05"
    assert duration(80) == "1:20"
    assert sparkline([0, 1]) == "▁█"
    assert len(sparkline(list(range(100)))) == 12
    assert sparkline([]) == ""


# -- the live page -------------------------------------------------------------------------------


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[live.Server]:
    record = many(tmp_path)
    with live.server(tmp_path, 0, lambda _: record) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(
    serving: live.Server, path: str, host: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", serving.server_port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_the_live_page_is_bound_to_loopback(serving: live.Server) -> None:
    assert serving.server_address[0] == "127.0.0.1"
    status, headers, body = ask(serving, "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not [v for _, n, v in Page(body.decode()).attributes if v.startswith("http")]


def test_the_live_data_counts_and_draws(serving: live.Server) -> None:
    status, _, body = ask(serving, "/data.json")
    assert status == 200
    data = json.loads(body)
    assert dict(data["states"])["running"] == 1
    assert dict(data["states"])["refused"] == 3
    assert (data["done"], data["trials"]) == (10, 48)
    assert data["running"] == [["t0010", "1 k of 9 k samples (11 %)", "gp"]]
    assert data["failures"][-1] == ["t0009", "ValueError: <b>bad</b>"]
    assert {name for name, _ in data["failures"]} == {"t0009", "t0015", "t0016"}
    assert data["front"]["data"]
    assert data["growth"]["data"]


def test_a_running_trial_shows_its_checkpoint(serving: live.Server) -> None:
    folder = serving.folder / "trials" / "t0010" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text('{"samples": 4500}')
    data = json.loads(ask(serving, "/data.json")[2])
    assert data["running"][0][1] == "4.5 k of 9 k samples (50 %)"


@pytest.mark.parametrize(
    ("path", "host", "method", "status"),
    [
        ("/live.js", None, "GET", 200),
        ("/plotly.js", None, "HEAD", 200),
        ("/record.sqlite3", None, "GET", 404),
        ("/../../etc/passwd", None, "GET", 404),
        ("/", "evil.example", "GET", 403),
        ("/data.json", "evil.example:80", "GET", 403),
        ("/", None, "POST", 501),
    ],
)
def test_the_live_page_answers_nothing_else(
    serving: live.Server, path: str, host: str | None, method: str, status: int
) -> None:
    assert ask(serving, path, host, method)[0] == status


def test_a_record_that_cannot_be_read_is_said_and_not_fatal(tmp_path: Path) -> None:
    answers = [one(tmp_path)]

    def read(_: object) -> Snapshot:
        if answers:
            return answers.pop()
        raise NasxError("the record is not here")

    with live.server(tmp_path, 0, read) as found:
        assert found.data() == (503, b'{"error": "the record is not here"}')


def test_a_taken_port_is_refused_in_one_line(tmp_path: Path) -> None:
    record = one(tmp_path)
    with (
        live.server(tmp_path, 0, lambda _: record) as found,
        pytest.raises(NasxError, match="give another --port"),
    ):
        live.server(tmp_path, found.server_port, lambda _: record)


def test_a_trial_that_ran_before_is_read_once_a_second(tmp_path: Path) -> None:
    reads = []

    def read(_: object) -> Snapshot:
        reads.append(1)
        return replace(zero(tmp_path), trials=(trial(0),))

    with live.server(tmp_path, 0, read) as found:
        assert found.data() == found.data()
    assert len(reads) == 2  # once to refuse a folder without a run, once for the data


def test_what_a_cost_card_and_the_quiet_pass_warn_of_is_said(tmp_path):
    whole = many(tmp_path)
    noted = replace(whole.trials[0], card={**whole.trials[0].card, "notes": ["no energy: 3 %"]})
    finals = {
        0: replace(
            whole.finals[0],
            latency={"median_ms": 0.2, "contended": True, "same_as": ["t0001", "t0002"]},
        ),
        1: replace(whole.finals[1], latency=None, fault="cannot be written as ONNX"),
    }
    record = replace(whole, trials=(noted, *whole.trials[1:]), finals=finals)
    rows = {row["name"]: row for row in Page(page(record)).data()["trials"]}
    assert rows["t0000"]["notes"] == [
        "no energy: 3 %",
        "Other work disturbed the measurement of its latency.",
        "Its latency cannot be told from that of t0001, t0002.",
    ]
    assert rows["t0001"]["notes"] == [
        "Its latency could not be measured: cannot be written as ONNX"
    ]
    assert rows["t0002"]["notes"] == []


def test_a_member_slower_than_what_it_was_cut_from_is_told(pages: Pages) -> None:
    words = Page(pages["many"][1]).words
    said = "t0002 measures slower than the whole network it was cut from, by 5 to 20 % (99 %"
    assert said in words.replace("\u00a0", " ")
    assert "slower than the whole" not in Page(pages["one"][1]).words
    record = pages["many"][0]
    (card,) = [c for c in findings(record, record.study) if c.number == 2]
    assert card.sentences[-1].startswith("It measures slower than the whole network")
