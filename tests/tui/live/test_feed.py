"""The feed posts what changed, once, and reads no more than it must."""

from __future__ import annotations

import os
import sqlite3
import threading

import pytest

from jobs.store.reader import StoreReader
from tui.live.feed import Feed, LogTail, Watch
from tui.live.messages import (
    ChartsChanged,
    FeedFailed,
    LogChanged,
    MachineSampled,
    RunsChanged,
)


class CountingReader(StoreReader):
    """Counts what is read."""

    def __init__(self, path):
        super().__init__(path)
        self.counts = {"runs": 0, "curves": 0}

    def runs(self):
        self.counts["runs"] += 1
        return super().runs()

    def curves(self, *args, **kwargs):
        self.counts["curves"] += 1
        return super().curves(*args, **kwargs)


class Posts(list):
    """Keeps what the feed posted, by kind."""

    def of(self, kind):
        return [message for message in self if isinstance(message, kind)]


@pytest.fixture
def posts():
    return Posts()


@pytest.fixture
def ticking():
    now = [1_800_000_000.0]
    return now


@pytest.fixture
def feed(home, posts, ticking):
    return Feed(home, lambda: StoreReader(home.store), post=posts.append, clock=lambda: ticking[0])


def test_a_missing_store_reads_as_empty(feed, home, posts):
    with StoreReader(home.store) as reader:
        feed.poll(reader)
    assert posts.of(RunsChanged)[-1].runs == ()
    assert posts.of(ChartsChanged)[-1].data == ()
    assert posts.of(MachineSampled)[-1].sample is None


def test_runs_charts_and_log_of_the_watched_run_are_posted(feed, lab, posts):
    first, second = lab.run("a", "finished", updates=1000), lab.run("b", "finished", updates=2000)
    feed.watch(Watch((second, first)))
    with StoreReader(lab.home.store) as reader:
        feed.poll(reader)
    assert [run.name for run in posts.of(RunsChanged)[-1].runs] == ["b", "a"]
    data = posts.of(ChartsChanged)[-1].data
    assert [item.run.id for item in data] == [second, first]
    assert data[0].curves["loss"].updates[-1] == 2000
    assert len(data[0].system) == 120
    log = posts.of(LogChanged)[-1]
    assert log.run == second
    assert log.lines[-1].startswith("03:04:00  update 2000")


def test_nothing_is_read_while_nothing_changes(feed, lab, posts):
    feed.watch(Watch((lab.run("a", "finished", updates=1000),)))
    with CountingReader(lab.home.store) as reader:
        feed.poll(reader)
        posts.clear()
        for _ in range(5):
            feed.poll(reader)
        assert reader.counts == {"runs": 1, "curves": 1}
    assert posts == []


def test_ended_runs_are_read_once(feed, lab, posts, ticking):
    ended, running = lab.run("a", "finished", updates=1000), lab.run("b", "running", updates=500)
    feed.watch(Watch((running, ended)))
    with CountingReader(lab.home.store) as reader:
        feed.poll(reader)
        lab.writer.update_run(running, updates=600)
        ticking[0] += 1.5
        feed.poll(reader)
        assert reader.counts["curves"] == 3
    assert posts.of(ChartsChanged)[-1].data[0].run.updates == 600


def test_charts_are_read_at_most_once_a_second(feed, lab, posts, ticking):
    run = lab.run("b", "running", updates=500)
    feed.watch(Watch((run,)))
    with CountingReader(lab.home.store) as reader:
        feed.poll(reader)
        for updates in range(501, 510):
            lab.writer.update_run(run, updates=updates)
            ticking[0] += 0.05
            feed.poll(reader)
        assert reader.counts["curves"] == 1
        ticking[0] += 1.0
        feed.poll(reader)
        assert reader.counts["curves"] == 2
    assert posts.of(ChartsChanged)[-1].data[0].run.updates == 509


def test_workers_are_looked_at_even_when_the_store_rests(feed, lab, posts, ticking):
    lab.worker(pid=os.getpid())
    with StoreReader(lab.home.store) as reader:
        feed.poll(reader)
        assert posts.of(RunsChanged)[-1].workers[0].alive
        posts.clear()
        ticking[0] += 2.5
        feed.poll(reader)
    assert len(posts.of(RunsChanged)) == 1


def test_the_thread_says_once_what_is_wrong_and_ends_when_closed(home, posts):
    tried = threading.Event()

    def broken():
        if posts:
            tried.set()
        raise sqlite3.OperationalError("disk I/O error")

    feed = Feed(home, broken, post=posts.append)
    thread = threading.Thread(target=feed.run, args=(lambda: False,))
    thread.start()
    assert tried.wait(10)
    feed.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [message.reason for message in posts.of(FeedFailed)] == ["disk I/O error"]


def test_the_log_tail_reads_only_what_was_added(tmp_path):
    path = tmp_path / "log.txt"
    tail = LogTail(path)
    assert not tail.poll()
    path.write_text("one\ntw")
    assert tail.poll()
    assert tail.lines == ["one"]
    with path.open("a") as file:
        file.write("o\n\x1b[31mthree\x1b[0m\n")
    assert tail.poll()
    assert tail.lines == ["one", "two", "three"]
    assert not tail.poll()
    path.write_text("new\n")
    assert tail.poll()
    assert tail.lines == ["new"]


def test_a_long_log_is_read_from_its_end(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {index}\n" for index in range(50_000)))
    tail = LogTail(path)
    tail.poll()
    assert (len(tail.lines), tail.lines[-1]) == (400, "line 49999")


def test_only_the_newest_message_of_a_kind_waits():
    assert RunsChanged((), ()).can_replace(RunsChanged((), ()))
    assert not RunsChanged((), ()).can_replace(MachineSampled(None))


def test_a_character_written_in_two_parts_is_one(tmp_path):
    path = tmp_path / "log.txt"
    data = "größer 日\n".encode()
    tail = LogTail(path)
    for k in range(len(data)):
        path.write_bytes(data[: k + 1])
        tail.poll()
    assert tail.lines == ["größer 日"]
