"""What TensorBoard reads: the event files' records, by tensorboardX's own protocol buffers."""

import struct
import time

from tensorboardX.proto.event_pb2 import Event, SessionLog

from mtl_jax.train.board import Board


def events_of(folder):
    """The events of all files; each record is length, its checksum, data, its checksum."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_points_are_written_and_a_resumed_run_hides_what_it_makes_again(tmp_path):
    board = Board(tmp_path / "board", resume_from=4)
    board.add("train/loss", 0.5, 5)
    board.add("eval/auc", 0.75, 6)
    board.close()
    version, start, *points = events_of(tmp_path / "board")
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    told = [(p.step, p.summary.value[0].tag, p.summary.value[0].simple_value) for p in points]
    assert told == [(5, "train/loss", 0.5), (6, "eval/auc", 0.75)]


def test_a_clock_that_is_set_back_stops_nothing(tmp_path, monkeypatch):
    now = time.time()
    board = Board(tmp_path / "board", resume_from=0)
    for step in range(50):
        monkeypatch.setattr(time, "time", lambda s=step: now - s * 1e7)
        board.add("train/loss", 0.5, step)
    board.close()
    assert len(events_of(tmp_path / "board")) == 51
