from __future__ import annotations

import pytest

from rerank_server.contract.errors import BundleError
from rerank_server.contract.outputs import ObjectiveOutput, outputs_from_json, outputs_to_json

OUTPUTS = (
    ObjectiveOutput("click", "binary", "probability", "", "probability of click"),
    ObjectiveOutput("spend", "value", "amount", "EUR", "expected spend in EUR"),
)


def test_what_is_written_is_read_again():
    assert outputs_from_json(outputs_to_json(OUTPUTS), ("click", "spend")) == OUTPUTS


def test_a_bundle_that_does_not_say_serves_probabilities():
    (output,) = outputs_from_json(None, ("buy",))
    assert (output.name, output.kind, output.meaning) == (
        "buy",
        "probability",
        "probability of buy",
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"name": "click"}], "want what each objective serves"),
        (outputs_to_json(OUTPUTS[:1]), r"got \['click'\], want \['click', 'spend'\]"),
        (outputs_to_json(OUTPUTS[::-1]), "as in the schema"),
        (
            [outputs_to_json(OUTPUTS)[0], outputs_to_json(OUTPUTS)[1] | {"kind": "money"}],
            r"objectives\['spend'\]: got kind 'money', want one of probability",
        ),
    ],
)
def test_outputs_that_do_not_fit_are_refused(value, message):
    with pytest.raises(BundleError, match=message):
        outputs_from_json(value, ("click", "spend"))
