from __future__ import annotations

import pytest

from tests.trainer.small_runs import write_small_config
from trainer.commands.run_options import PLANS
from trainer.encoding.log_share import PageLimits
from trainer.errors import ConfigError
from trainer.studies.ablation_plan import FULL, AblationError, only, read_plan, sent_to

CHANGES = '[changes."category adapters"]\nrank = 0\n[changes.pointwise]\npointwise_weight = 0.0\n'


@pytest.fixture
def written(tmp_path):
    write_small_config(tmp_path)

    def write(text):
        path = tmp_path / "plan.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_each_change_is_laid_over_the_full_configuration(written):
    plan = read_plan(
        written(
            'config = "small.toml"\nseeds = 2\nsplit = "test"\ntest_pages = 9\n[set]\nepochs = 3\n'
            + CHANGES
        )
    )
    assert list(plan.configs()) == [FULL, "category adapters", "pointwise"]
    assert (plan.full.epochs, plan.full.rank, plan.full.pointwise_weight) == (3, 1, 0.1)
    changed = plan.changes["category adapters"]
    assert (changed.epochs, changed.rank, changed.pointwise_weight) == (3, 0, 0.1)
    assert (plan.name, plan.seeds, plan.split) == ("plan", 2, "test")
    assert plan.limits == PageLimits(0, 0, 9)


def test_the_plan_that_is_shipped_can_be_read():
    plan = read_plan(PLANS / "ablation.toml")
    assert plan.changes["trees"].trees is False
    assert plan.changes["page attention"].page_layers == 0
    assert len(plan.changes) > 12


def test_a_plan_can_be_narrowed_and_sent_elsewhere(written):
    plan = read_plan(written(f'config = "small.toml"\n{CHANGES}'))
    assert list(only(plan, ("pointwise",)).configs()) == [FULL, "pointwise"]
    with pytest.raises(AblationError, match="nearest: pointwise"):
        only(plan, ("pointwize",))
    assert {one.mlflow for one in sent_to(plan, "runs").configs().values()} == {"runs"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "config: got none"),
        ('config = "small.toml"\n', r"changes: got None"),
        ('config = "small.toml"\nsead = 1\n', "sead: got an unknown key.*nearest: seeds"),
        (f'config = "small.toml"\nseeds = 0\n{CHANGES}', "seeds: got 0"),
        (f'config = "small.toml"\nsplit = "train"\n{CHANGES}', "split: got 'train'"),
        (f'config = "small.toml"\ntrain_pages = -1\n{CHANGES}', "train_pages: got -1"),
        ('config = "small.toml"\n[changes.nothing]\nrank = 1\n', "configuration of 'full'"),
        (
            'config = "small.toml"\n[changes.a]\nrank = 0\n[changes.b]\nrank = 0\n',
            "'b': got the configuration of 'a'",
        ),
        ('config = "small.toml"\n[changes.full]\nrank = 0\n', "got 'full'"),
        ('config = "small.toml"\n[changes.a]\n', "changes 'a': got {}"),
    ],
)
def test_a_plan_that_says_nothing_sensible_is_refused(written, text, said):
    with pytest.raises(AblationError, match=said):
        read_plan(written(text))


def test_a_change_that_is_no_configuration_is_named(written):
    with pytest.raises(ConfigError, match=r"of plan\.toml, 'a': .*nearest: rank"):
        read_plan(written('config = "small.toml"\n[changes.a]\nrankk = 0\n'))
