"""Progress lines: one every few seconds, with the speed and the total."""

from tunesmith_trainer import log
from tunesmith_trainer.meter import Meter


def test_a_line_every_few_seconds(monkeypatch):
    """Quick work says nothing; long work says how many rows of how many, and how fast."""
    lines, now = [], [0.0]
    monkeypatch.setattr(log, "info", lambda message, **fields: lines.append((message, fields)))
    meter = Meter("reading", 100, clock=lambda: now[0], field="f")
    for second in range(12):
        now[0] = float(second)
        meter.add()
    meter.finish()
    known = {"field": "f", "total": 100}
    assert lines == [
        ("reading", {"rows": 6, "rows_per_second": 1, **known}),
        ("reading", {"rows": 11, "rows_per_second": 1, **known}),
        ("reading", {"rows": 12, "rows_per_second": 1, **known}),
    ]
    quick = Meter("reading", clock=lambda: now[0])
    quick.add()
    quick.finish()
    assert len(lines) == 3
