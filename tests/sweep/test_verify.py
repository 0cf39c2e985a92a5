"""What `verify.py` says of a trial that ends elsewhere when it trains alone."""

import pytest

from trialstack.run.status import Status
from trialstack.sweep.verify import Comparison, Verification


@pytest.mark.parametrize(
    ("epochs", "statuses", "difference", "holds"),
    [
        ((6, 6), (Status.COMPLETED, Status.COMPLETED), 0.0, True),
        ((6, 3), (Status.COMPLETED, Status.COMPLETED), 0.0, False),
        ((6, 6), (Status.COMPLETED, Status.DIVERGED), 0.0, False),
        ((6, 6), (Status.COMPLETED, Status.COMPLETED), 2.0, False),
    ],
)
def test_a_trial_holds_if_it_ends_alike_within_rounding(
    epochs: tuple[int, int], statuses: tuple[Status, Status], difference: float, holds: bool
) -> None:
    compared = Comparison("weights", difference, 1.0)
    assert Verification(4, statuses, epochs, False, compared, compared).holds == holds
