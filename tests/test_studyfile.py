import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasx.errors import NasxError, StudyError
from nasx.studyfile import load
from nasx.yamlmarks import parse

HERE = Path(__file__).parent
GOOD = f"""\
desc: Which width buys accuracy per MAC on small digits?
space: {HERE}/tiny.py:Tiny
task: {HERE}/tiny.py:TinyDigits
objectives: {{top1: maximize, macs: minimize}}
constraints: {{params: "<= 1.0e6"}}
fidelity: {{full: 9e2, rungs: 2}}
search: {{trials: 4, sampler: random}}
resources: {{executor: inline}}
"""


@pytest.fixture
def write(tmp_path):
    def put(text: str = GOOD, name: str = "mine.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    return put


def faults(file: Path, *overrides: str) -> str:
    with pytest.raises(NasxError) as caught:
        load(file, overrides)
    return str(caught.value)


def test_a_good_study_is_read_with_its_defaults(write):
    study = load(write())
    assert (study.name, study.fidelity.full, study.search.trials) == ("mine", 900, 4)
    assert study.fidelity.factor == 3
    assert study.limits() == {"params": ("<=", 1e6)}
    assert study.search.start == ("baseline",)


def test_a_study_is_run_again_by_its_resolved_text(write, tmp_path):
    study = load(write())
    again = tmp_path / "resolved.yaml"
    again.write_text(yaml.safe_dump(study.resolved(), sort_keys=False))
    assert load(again) == study


def test_every_schema_fault_is_told_at_once_with_its_place(write):
    text = """\
desc: x
space: tiny
task: digits
sampler: gp
objectives: {top1: maximise, mac: minimize, params: maximize}
constraints: {params: "< 5", macs: ">= 5", latency_ms: 8, bytes: "<= 1.2.3"}
fidelity: {full: 9000, rungs: 2.5, unit: epochs, factor: true}
search:
  sampler: nsga
  trails: 50
  trials: "48"
  start: baseline
resources: {cpu: 0, memory: lots, gpu: .inf}
measure: {device: "cuda:first"}
"""
    file = write(text)
    said = faults(file)
    for place, message in (
        ("4:1", "unknown key 'sampler'; it belongs in search"),
        ("5:20", "objectives.top1: 'maximise' is not one of maximize, minimize; did you mean 'max"),
        ("5:30", "unknown axis 'mac' in objectives; did you mean 'macs'?"),
        ("5:53", "params is better when smaller: write minimize"),
        ("6:23", "'< 5' is not a bound"),
        ("6:36", 'macs is better when smaller: bound it as "<= 5"'),
        ("6:56", "'8' is not a bound"),
        ("6:66", "'<= 1.2.3' cannot be read"),
        ("7:31", "fidelity.rungs: must be a whole number, not '2.5'"),
        ("7:42", "'epochs' is not one of samples"),
        ("7:58", "fidelity.factor: must be a whole number, not 'true'"),
        ("9:12", "'nsga' is not one of auto, gp, local, tpe, random; did you mean 'local'?"),
        ("10:3", "unknown key 'trails' in search; did you mean 'trials'?"),
        ("11:11", "search.trials: must be a whole number, not '48'"),
        ("12:10", "search.start: must be a list"),
        ("13:18", "resources.cpu: must be greater than 0"),
        ("13:29", "resources.memory: must be a number of bytes or a text"),
        ("13:40", ".inf is not a finite number"),
        ("14:19", "must be cpu, cuda, cuda:N or part of a model's name, not 'cuda:first'"),
    ):
        assert any(
            line.startswith(f"{file}:{place}: ") and message in line for line in said.splitlines()
        ), (place, message, said)
    assert said.startswith(f"{file} has 19 faults")


def test_the_caret_stands_under_the_fault(write):
    said = faults(write(GOOD.replace("trials: 4", "trials: -4"))).splitlines()
    assert said[1].strip().startswith("search: {trials: -4")
    assert said[1][said[2].index("^") :].startswith("-4,")


def test_a_very_long_line_is_shown_around_the_fault(write):
    said = faults(write(GOOD + "final: {" + " " * 5000 + "seeds: 0}\n")).splitlines()
    assert len(said[1]) < 120
    assert said[1][said[2].index("^") :].startswith("0}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: &a {trials: 4}\nfinal: *a\n", "alias *a is not allowed"),
        ("search: {trials: 4}\nsearch: {trials: 5}\n", "duplicate key 'search' (first on line"),
        ("search: {trials: 4, trials: 5}\n", "duplicate key 'trials'"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
        ("search: !!python/object/apply:os.system [true]\n", "is not allowed: remove it"),
        ("search: {hours: 2020-01-01}\n", "reads as a date"),
        ("search: [1, 2\n", "is not YAML"),
        ("search: {trials: 4}\n---\na: 1\n", "is not YAML"),
        ("assets: " + "{a: " * 40 + "1" + "}" * 40 + "\n", "nested too deeply"),
        ("<<: {desc: y}\n", "unknown key '<<'"),
        ("search: {hours: " + "9" * 5000 + "}\n", "cannot be read as int"),
        ("final: 3\n", "final: must be a mapping, not '3'"),
        ("fix: [1]\n", "fix: must be a mapping, not a list"),
        ("fidelity: {full: 5, rungs: 4}\n", "the first of 4 rungs would see no sample"),
    ],
)
def test_what_yaml_can_do_wrong(write, text, message):
    stripped = "".join(
        line for line in GOOD.splitlines(True) if line.partition(":")[0] != text.partition(":")[0]
    )
    assert message in faults(write(stripped + text))


def test_aliases_cannot_blow_up(write):
    bombs = ["b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    bombs += [f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 12)]
    said = faults(write(GOOD + "\n".join(bombs) + "\n"))
    assert "anchor &b0 is not allowed" in said


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"- a\n- b\n", "is not a mapping"),
        (b"desc: \xff\xfe\n", "is not UTF-8"),
        (b"desc: a\x00b\n", "is not YAML"),
        (b"# " + b"x" * 300_000, "is larger than 256 KiB"),
    ],
)
def test_a_file_that_is_no_study_is_one_line(tmp_path, raw, message):
    file = tmp_path / "odd.yaml"
    file.write_bytes(raw)
    said = faults(file)
    assert message in said
    assert str(file) in said


def test_a_missing_file_a_folder_and_a_bad_name(tmp_path, write):
    assert "no study file" in faults(tmp_path / "none.yaml")
    assert "is a folder" in faults(tmp_path)
    assert "is not a name" in faults(write(name="My Study.yaml"))


def test_missing_keys_are_told_together(write):
    said = faults(write("fix: {}\n"))
    for key in ("desc", "space", "task", "objectives"):
        assert f"key '{key}' is missing" in said


def test_overrides_are_yaml_and_their_faults_name_them(write):
    study = load(write(), ["search.trials=7", "search.hours=0.5", "desc=Why: is quoted here?"[:8]])
    assert (study.search.trials, study.search.hours, study.desc) == (7, 0.5, "Why")
    study = load(write(), ["domains.width=[8, 16]", "objectives={top1: maximize}"])
    assert study.domains == {"width": [8, 16]}
    said = faults(write(), "search.trials=0", "search.sampler=nsga", "nothing", "desc.x=1",
                  "search.seed=[1", "serch.seed=1")  # fmt: skip
    for text in (
        "--set search.trials=0: search.trials: must be greater than 0",
        "--set search.sampler=nsga: search.sampler: 'nsga' is not one of",
        "--set nothing: write it as key=value",
        "--set desc.x=1: 'desc' has no parts to set",
        "--set search.seed=[1: is not YAML",
        "--set serch.seed=1: unknown key 'serch'; did you mean 'search'?",
    ):
        assert text in said


def test_an_override_heals_a_fault_of_the_file(write):
    file = write(GOOD.replace("trials: 4", "trials: many"))
    assert load(file, ["search.trials=5"]).search.trials == 5


def test_schema_faults_come_without_torch(write):
    file = write(GOOD.replace("trials: 4", "trials: 0"))
    code = (
        "import sys, nasx, nasx.errors\n"
        f"try: nasx.load({str(file)!r})\n"
        "except nasx.errors.StudyError as e: print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_numbers_read_as_in_yaml_1_2():
    value = parse("[1e4, 2E3, 1.5e-1, 1_000, 3.0, 0x10]").value
    assert value == [10000, 2000, 0.15, 1000, 3.0, 16]
    assert [type(v) for v in value] == [int, int, float, int, float, int]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_fault(text):
    document = parse(text)
    assert document.faults or json.dumps(document.value) is not None


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["search", "trials", "desc", "fix", "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_value_is_refused_in_our_own_words(value):
    from nasx.studyfaults import STUDY, validate

    data = value if isinstance(value, dict) else {"search": value}
    study, told = validate({"name": "x", **data}, STUDY)
    assert study is None
    assert told
    assert all(fault.message and "Input should" not in fault.message for fault in told)


def test_public_names_stay_functions_beside_modules_of_the_same_name():
    import nasx.report
    import nasx.search.engine

    for name in nasx.__all__:
        assert callable(getattr(nasx, name))
        assert getattr(nasx, name).__name__ == name
    assert issubclass(StudyError, NasxError)
