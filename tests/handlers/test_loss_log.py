from __future__ import annotations

import csv
import json

import pytest
from ignite.engine import Engine, Events

from medsynth_ext.handlers import Checkpoint, LossLog


def rows(folder) -> list[dict]:
    with (folder / "loss.csv").open() as file:
        return list(csv.DictReader(file))


def curve(folder) -> list[tuple[int, float]]:
    return [(int(row["iteration"]), float(row["loss"])) for row in rows(folder)]


def test_every_iteration_has_a_row_and_every_epoch_a_record(tmp_path, make_training):
    training = make_training()
    training.trainer(LossLog(tmp_path), epochs=2).run()
    table = rows(tmp_path)
    assert [float(row["loss"]) for row in table] == pytest.approx(training.losses)
    assert [float(row["double"]) for row in table] == pytest.approx([2 * v for v in training.losses])
    assert [(int(row["epoch"]), int(row["iteration"])) for row in table] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 4),
        (2, 5),
        (2, 6),
    ]
    assert all(float(row["seconds"]) >= 0 for row in table)
    records = json.loads((tmp_path / "epochs.json").read_text())
    assert [record["iteration"] for record in records] == [3, 6]
    assert records[1]["loss"] == pytest.approx(sum(training.losses[3:]) / 3)


class KilledError(Exception):
    pass


def interrupted_at(iteration):
    class Interrupt:
        def attach(self, engine):
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), self.stop)

        def stop(self):
            raise KilledError

    return Interrupt()


def test_going_on_neither_loses_nor_doubles_rows(tmp_path, make_training):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training = make_training()
    training.trainer(LossLog(whole)).run()
    training = make_training()
    handlers = LossLog(parts), Checkpoint(parts, training.objects), interrupted_at(8)
    with pytest.raises(KilledError):
        training.trainer(*handlers).run()
    assert len(rows(parts)) == 8  # two rows more than the checkpoint knows
    with (parts / "loss.csv").open("a") as file:
        file.write("3,9,0.00")  # a row that was not finished
    training = make_training()
    training.trainer(LossLog(parts), Checkpoint(parts, training.objects)).run()
    assert curve(parts) == curve(whole)
    records = [json.loads((folder / "epochs.json").read_text()) for folder in (parts, whole)]
    assert records[0] == records[1]


def test_a_new_training_starts_a_new_log(tmp_path, make_training):
    for _ in range(2):
        training = make_training()
        training.trainer(LossLog(tmp_path), epochs=1).run()
    assert [iteration for iteration, _ in curve(tmp_path)] == [1, 2, 3]


def test_a_term_that_appears_later_gets_a_column(tmp_path):
    outputs = [{"loss": 1.0, "warm": 1.0}, {"loss": 2.0, "warm": 2.0}, {"loss": 3.0, "main": 3.0}]
    engine = Engine(lambda engine, batch: batch)
    LossLog(tmp_path).attach(engine)
    engine.run(outputs)
    table = rows(tmp_path)
    assert [(row["warm"], row["main"]) for row in table] == [("1.0", ""), ("2.0", ""), ("", "3.0")]
    assert json.loads((tmp_path / "epochs.json").read_text())[0]["warm"] == 1.5


def test_validation_metrics_are_recorded_in_the_epochs_where_they_were_measured(tmp_path):
    evaluator = Engine(lambda engine, batch: None)
    engine = Engine(lambda engine, batch: {"loss": 1.0})

    @engine.on(Events.EPOCH_COMPLETED(every=2))
    def validate(engine):
        evaluator.state.epoch = engine.state.epoch
        evaluator.state.metrics = {"dice": 0.1 * engine.state.epoch}

    LossLog(tmp_path, evaluator=evaluator).attach(engine)
    engine.run([0], max_epochs=4)
    records = json.loads((tmp_path / "epochs.json").read_text())
    assert [record.get("metrics", {}).get("dice") for record in records] == [None, 0.2, None, 0.4]
