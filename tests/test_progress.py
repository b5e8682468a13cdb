"""What is said about a long piece of work: lines now and then, or live on a terminal."""

import io
import re
import sys

import pytest

from nofrost_jax import progress


@pytest.fixture
def now(monkeypatch):
    """The clock, as a list of one number."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    return clock


def test_a_pass_is_told_on_stderr_and_a_short_one_not_at_all(now, capsys):
    def items(seconds):
        for i in range(10):
            now[0] += seconds
            yield i

    assert list(progress.shown(items(0.1), 10, "reading", "files")) == list(range(10))
    assert capsys.readouterr() == ("", "")
    assert list(progress.shown(items(60), 10, "reading", "files")) == list(range(10))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading: 1 of 10 files, 0.0167/s, 9 min 00 s left" and len(lines) == 11
    assert lines[-1] == "reading: all 10 files in 10 min 00 s"


def test_the_rate_is_that_of_the_work_done(now, capsys):
    """Files that were there already are behind, but took no time; compiling is no work."""
    told = progress.Progress("edsr", 1000, "files")
    told.advance(100, 0)
    now[0] += 7
    told.advance(0, 50)
    now[0] += 8
    told.pause(5)
    told.advance(500, 50, ", now fog 3")
    assert capsys.readouterr().out == "edsr: 600 of 1,000 files, 10/s, 40 s left, now fog 3\n"
    assert told.done == 100 and told.seconds() == 10
    now[0] += 9
    told.advance(100)  # too soon after the last
    progress.Progress("edsr", 1000, "files", active=False).advance()
    assert capsys.readouterr().out == ""


def test_a_training_leaves_out_what_was_no_training(now, capsys):
    steps = progress.Steps(total=100, per_epoch=50, batch_size=64, start=10)
    now[0] += 25
    steps.pause(20)  # compiling
    steps.wait(1.25)
    steps.at(20)  # for a terminal alone
    speeds = steps.line(20, {"loss": 1.0})
    assert speeds == {"speed/images_per_second": 128.0, "speed/input_wait": 0.25}  # 10 steps in 5 seconds
    assert capsys.readouterr().out == "step 20/100  epoch 0.4  loss 1.000  128 images/s  40 s left\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.2, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min"), (183_600, "2 d 3 h")],
)
def test_time_left_is_readable(seconds, text):
    assert progress.duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(monkeypatch):
    """Makes standard output and error a terminal, which it returns. No fixture: pytest sets its own up after them."""
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    for name in ("_LIVE_AFTER", "_LIVE_EVERY"):
        monkeypatch.setattr(progress, name, -1)
    return stream


def test_a_terminal_has_live_lines_and_keeps_what_is_printed(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    plain = "a line much longer than eighty columns, which no program but the terminal itself may break in two parts"
    with progress.Progress("outer", 4, "files") as outer:
        outer.advance(note=", now [b]")
        for _ in progress.shown([1], 2, "inner", "images"):
            print(plain)
            progress._rows.display.refresh()
    assert sys.stdout is terminal and sys.stderr is terminal and progress._rows.display is None
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", terminal.getvalue())
    assert f"{plain}\n" in text
    assert re.search(r"━ outer: 1 of 4 files, \S+/s, \d+ s left, now \[b\] *\r?\n.*━ inner: 1 of 2 images", text)
    assert "\x1b[?25l" not in terminal.getvalue()  # the cursor stays: who ends at once could not bring it back
    print("after")
    assert terminal.getvalue().endswith("after\n")


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
def test_an_error_takes_the_live_line_away(monkeypatch, raised):
    terminal = on_a_terminal(monkeypatch)
    with pytest.raises(raised), progress.Steps(10, 5, 1, 0) as steps:
        steps.at(1)
        assert progress._rows.display
        raise raised
    assert progress._rows.display is None and sys.stdout is terminal


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(progress, "EVERY", -1)
    progress.Progress("edsr", 2, "files").advance()
    assert terminal.getvalue().startswith("edsr: 1 of 2 files") and progress._rows.display is None
