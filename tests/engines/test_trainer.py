from __future__ import annotations

import pytest
import torch
from ignite.metrics import Average
from monai.engines.utils import IterationEvents
from monai.handlers import from_engine
from torch.utils.data import DataLoader

from medsynth_ext.engines import StepTrainer


class LineStep:
    """Fits y = 2 x with one weight."""

    def __init__(self, lr: float = 0.1, factor: float = 1.0) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=lr)
        self.factor = factor
        self.dtypes: list[torch.dtype] = []

    def __call__(self, engine: StepTrainer, batch: dict) -> dict:
        with engine.autocast():
            pred = self.network(batch["image"])
        self.dtypes.append(pred.dtype)
        loss = self.factor * ((pred.float() - 2 * batch["image"]) ** 2).mean()
        engine.update(loss, self.optimizer)
        return {"loss": loss.detach(), "pred": pred.detach()}


def make_trainer(step, epochs=3, **options) -> StepTrainer:
    data = [{"image": torch.tensor([float(i)])} for i in (1, 2, 3, 4)]
    return StepTrainer("cpu", epochs, DataLoader(data, batch_size=2), step, **options)


def test_training_lowers_the_loss():
    losses = []
    step = LineStep(lr=0.05)
    trainer = make_trainer(step, epochs=10)
    trainer.add_event_handler(
        IterationEvents.MODEL_COMPLETED,
        lambda e: losses.append(float(from_engine(["loss"], first=True)(e.state.output))),
    )
    trainer.run()
    assert len(losses) == 20
    assert losses[-1] < 1e-2 * losses[0]
    assert step.network.weight.item() == pytest.approx(2, abs=0.05)


def test_output_is_decollated_and_reaches_postprocessing_and_metrics():
    seen = []

    def record(data):
        seen.append(tuple(data["pred"].shape))
        return data

    metric = {"mean_loss": Average(output_transform=lambda output: output[0]["loss"])}
    trainer = make_trainer(LineStep(), epochs=1, postprocessing=record, key_train_metric=metric)
    trainer.run()
    assert seen == [(1,)] * 4  # two batches of two samples
    assert isinstance(trainer.state.output, list)
    assert len(trainer.state.output) == 2
    assert trainer.state.metrics["mean_loss"] > 0


def test_gradient_norm_is_clipped():
    step = LineStep(lr=1.0, factor=1000.0)
    trainer = make_trainer(step, epochs=1, epoch_length=1, max_grad_norm=0.25)
    trainer.run()
    assert step.network.weight.item() == pytest.approx(0.25, rel=1e-4)  # one step of length lr * max_grad_norm


@pytest.mark.parametrize(("amp", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_autocast_runs_the_network_in_the_asked_precision(amp, dtype):
    step = LineStep()
    make_trainer(step, epochs=1, amp=amp, amp_dtype="bfloat16").run()
    assert set(step.dtypes) == {dtype}
    assert step.network.weight.dtype == torch.float32


def test_float16_scales_the_gradient_and_skips_steps_that_overflow():
    step = LineStep(lr=0.01)
    trainer = make_trainer(step, epochs=30, amp=True, amp_dtype="float16")
    first = trainer.grad_scaler.get_scale()
    trainer.run()
    assert trainer.grad_scaler.get_scale() < first  # the first gradients do not fit into float16 at this scale
    assert step.network.weight.item() == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_before_the_weights_change(factor):
    step = LineStep(factor=factor)
    with pytest.raises(FloatingPointError, match=r"loss must be finite, got (nan|inf) in iteration 1 \(epoch 1\)"):
        make_trainer(step).run()
    assert step.network.weight.item() == 0


def test_a_gradient_that_is_not_finite_is_refused_before_the_weights_change():
    class RootStep(LineStep):
        def __call__(self, engine, batch):
            loss = self.network.weight.abs().sqrt().sum()  # infinite slope at 0
            engine.update(loss, self.optimizer)
            return {"loss": loss}

    step = RootStep()
    with pytest.raises(FloatingPointError, match=r"gradient's norm must be finite"):
        make_trainer(step).run()
    assert step.network.weight.item() == 0


def test_a_step_must_return_its_loss():
    with pytest.raises(ValueError, match=r"must return a dict with 'loss', function returned \['pred'\]"):
        make_trainer(lambda engine, batch: {"pred": batch["image"]}).run()


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"amp_dtype must be one of \['bfloat16', 'float16'\], got 'int8'"):
        make_trainer(LineStep(), amp_dtype="int8")
