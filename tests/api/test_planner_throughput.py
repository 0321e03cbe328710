"""Tests of time and cost: values worked out by hand, and what stays unknown."""

from dataclasses import replace
from typing import Any

import pytest

from tunesmith_api.catalog import find_preset
from tunesmith_api.enums import PoolClass
from tunesmith_api.finetunejob import DistributionSpec, FineTuneJobSpec, TechniqueSpec
from tunesmith_api.planner import DataSize, PoolOffer, Spending, Workload, estimate_spending, spending, workload_of
from tunesmith_api.planner.throughput import UTILISATION, flops_per_token, slowdown, training_tokens
from tunesmith_api.shapes import linear_weights

MINI = find_preset("phi-3-mini-4k-instruct").architecture
FULL = TechniqueSpec.model_validate({"type": "Full"})
LORA = TechniqueSpec.model_validate({"type": "LoRA", "lora": {"rank": 1, "alpha": 2}})
WORK = Workload(batch_size=2, sequence_length=100)


def spec(**training: Any) -> FineTuneJobSpec:
    """A job with some hyperparameters."""
    data = {"train": {"uri": "configmap://data/train.jsonl"}}
    return FineTuneJobSpec.model_validate(
        {"model": {"preset": "tiny-phi3"}, "dataset": data, "training": {"batchSize": 2, **training}}
    )


def test_full_tuning_takes_six_operations_a_weight_and_an_adapter_four() -> None:
    """Kaplan et al. 2020, section 2.1; attention adds 12 x layers x half the length x width."""
    weights = linear_weights(MINI) + 32064 * 3072
    attention = 12 * 32 * 50 * 3072
    assert flops_per_token(MINI, FULL, WORK) == 6 * weights + attention
    assert flops_per_token(MINI, LORA, WORK) == pytest.approx(4 * weights + attention, rel=0.002)


def test_time_is_operations_over_arithmetic() -> None:
    """Tokens times operations, over the share of the pool's arithmetic that training reaches; cost by the hour."""
    found = spending(
        MINI, FULL, WORK, tokens=1000, teraflops=1, device_class=PoolClass.CPU, price_per_hour=7.2, nodes=2, engines=8
    )
    seconds = 1000 * flops_per_token(MINI, FULL, WORK) / (1e12 * UTILISATION[PoolClass.CPU] * 8)
    assert found.seconds == pytest.approx(seconds)
    assert found.cost == pytest.approx(seconds / 3600 * 7.2 * 2)


def test_what_is_not_known_stays_unknown() -> None:
    """No arithmetic, no time; no price, no cost."""

    def told(**known: Any) -> Spending:
        base = {"tokens": 10, "teraflops": 1.0, "price_per_hour": 1.0}
        return spending(MINI, LORA, WORK, device_class=PoolClass.CPU, **{**base, **known})

    assert told(teraflops=None) == Spending(10)
    assert told(price_per_hour=None).cost is None
    assert (told(tokens=None).seconds, told(tokens=None).tokens_per_second) != (None, None)
    assert told(tokens=None).seconds is None


@pytest.mark.parametrize(
    ("training", "tokens", "rows", "expected"),
    [
        ({"epochs": 3}, 1000, 10, 3000),
        ({"epochs": 3, "maxSteps": 5}, 1000, 10, 5 * 2 * 100),
        ({"maxSteps": 5, "gradientAccumulationSteps": 4}, None, None, 5 * 2 * 4 * 100),
        ({"epochs": 3}, None, None, None),
    ],
)
def test_tokens_of_a_training(
    training: dict[str, Any], tokens: int | None, rows: int | None, expected: int | None
) -> None:
    """Epochs over the data, at most what the steps see; rows as long as can be where the data is not known."""
    assert training_tokens(spec(**training), WORK, tokens, rows) == expected


def test_quantised_and_decomposed_weights_cost_time() -> None:
    """DoRA and QLoRA are slower than LoRA, and DoRA on QLoRA slower than both."""
    dora = TechniqueSpec.model_validate({"type": "DoRA"})
    qlora = TechniqueSpec.model_validate({"type": "QLoRA"})
    both = TechniqueSpec.model_validate({"type": "QLoRA", "lora": {"weightDecomposed": True}})
    assert slowdown(LORA) == 1 < slowdown(dora) < slowdown(qlora) < slowdown(both)


def test_every_process_takes_rows_of_its_own() -> None:
    """A step of four processes sees four batches; eight devices are eight times as fast at eight times the price."""
    job = spec(maxSteps=100)
    work = workload_of(job, MINI, autocast=False)
    shared = job.model_copy(update={"distribution": DistributionSpec(workers=2, processes_per_worker=2)})
    assert training_tokens(shared, work, None, None) == 4 * (training_tokens(job, work, None, None) or 0)


def test_devices_share_the_time_and_nodes_the_cost() -> None:
    """`teraflops` is of a device and `pricePerHour` of a node: eight devices of one node take an eighth of the time."""
    pool = PoolOffer("gpu", PoolClass.GPU, price_per_hour=8, teraflops=100)
    known = DataSize(100, 100_000)

    def spent(processes: int) -> Spending:
        job = spec().model_copy(update={"distribution": DistributionSpec(processes_per_worker=processes)})
        return estimate_spending(job.model_copy(update={"technique": LORA}), MINI, pool, known)

    one, eight = spent(1), spent(8)
    assert one.seconds is not None
    assert one.cost is not None
    assert eight.seconds == pytest.approx(one.seconds / 8)
    assert eight.cost == pytest.approx(one.cost / 8)


def test_workers_on_one_node_share_its_time_and_its_price() -> None:
    """Without devices a node's arithmetic is all there is: four workers on two nodes do no more than two workers do."""
    known = DataSize(100, 100_000)

    def spent(workers: int, nodes: int | None, device_class: PoolClass = PoolClass.CPU) -> Spending:
        job = spec().model_copy(update={"technique": LORA, "distribution": DistributionSpec(workers=workers)})
        pool = PoolOffer("pool", device_class, price_per_hour=8, teraflops=1, nodes=nodes)
        return estimate_spending(job, MINI, pool, known)

    assert spent(4, 2) == spent(2, 2) == spent(2, None)
    assert spent(4, 2).seconds == pytest.approx(2 * (spent(4, 4).seconds or 0))
    assert spent(4, 0) == spent(1, None)  # a pool whose nodes are gone has a price all the same
    on_devices = spent(4, 2, PoolClass.GPU), spent(4, 4, PoolClass.GPU)
    assert on_devices[0].seconds == on_devices[1].seconds
    assert on_devices[0].cost == pytest.approx((on_devices[1].cost or 0) / 2)


def test_checkpointing_takes_a_forward_pass_more() -> None:
    """Of full tuning a third more of the layers' operations; the head is not worked out again (Chen et al. 2016)."""
    again = flops_per_token(MINI, FULL, replace(WORK, checkpointing=True)) - flops_per_token(MINI, FULL, WORK)
    attention = 4 * 32 * 50 * 3072
    assert again == pytest.approx(2 * linear_weights(MINI) + attention)
