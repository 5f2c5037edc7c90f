"""A storage URL that leads nowhere: one line with the remedy, and never the password."""

import pytest

from nasx.cli import run as command
from nasx.database import connection_options, demand_url, is_server, shown
from nasx.errors import NasxError
from test_engine import ran, study

SECRET = "s3cret@/:pw"
SPELLED = "s3cret%40%2F%3Apw"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "--storage is not a database URL; write postgresql+psycopg://"),
        (f"postgresql+psycopg://me:{SPELLED}@host:54x/d", "--storage is not a database URL"),
        (f"oracles://me:{SPELLED}@host/d", "an unknown kind of database, oracles"),
        (f"postgresql+pg1999://me:{SPELLED}@host/d", "an unknown kind of database"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url, said):
    with pytest.raises(NasxError, match=said.replace("+", r"\+")) as refused:
        demand_url(url)
    assert "s3cret" not in str(refused.value)


def test_a_missing_driver_is_named_with_the_package_that_brings_it(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "psycopg2", None)
    with pytest.raises(NasxError, match="pip install 'psycopg2-binary'"):
        ran(tmp_path, study(2), storage=f"postgresql+psycopg2://me:{SPELLED}@host/d")


def test_a_server_is_given_a_limit_to_answer_in():
    assert is_server("postgresql+psycopg://host/d")
    assert not is_server("sqlite:///x.sqlite3")
    assert not is_server(None)
    pytest.importorskip("psycopg")
    options = connection_options("postgresql+psycopg://host/d")
    assert options == {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
    own = connection_options("postgresql+psycopg://host/d?connect_timeout=3")
    assert own == {"pool_pre_ping": True}


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        (f"postgresql+psycopg://me:{SPELLED}@host:5/d", "postgresql+psycopg://me:***@host:5/d"),
        ("postgresql://me:p@ss@host/d?sslmode=x", "postgresql://me:***@host/d?sslmode=x"),
        ("postgresql://host/d?user=me&password=pw&a=b", "postgresql://host/d?user=me&password=***&a=b"),
        ("--storage=postgresql://me:pw@host/d", "--storage=postgresql://me:***@host/d"),
        ("postgresql://me@host/d", "postgresql://me@host/d"),
        ("search.trials=6", "search.trials=6"),
    ],
)  # fmt: skip
def test_a_command_line_is_shown_without_its_password(url, seen):
    assert shown(url) == seen


def test_an_unforeseen_error_is_logged_without_the_password(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NASX_CACHE", str(tmp_path))

    def broken(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("nasx.Run", broken)
    url = f"postgresql+psycopg://me:{SPELLED}@host/d"
    assert command(["status", str(tmp_path), "--storage", url]) == 1
    log = (tmp_path / "log.jsonl").read_text()
    assert "postgresql+psycopg://me:***@host/d" in log
    assert "s3cret" not in log + "".join(capsys.readouterr())
