"""A learner as ONNX says what it says here, whatever it is made of."""

import numpy as np
import onnxruntime as ort
import pytest

from offline.coupons.choice import CANDIDATES, SHRUNK, fit_blend, hedged
from offline.coupons.fitted import Clipped
from offline.coupons.responses import Boosting, Logistic
from offline.coupons.uplift import LEARNERS, OneModel
from offline.coupons.uplift_onnx import uplift_to_onnx
from tests.offline.coupons.worlds import draw_world


@pytest.mark.parametrize("name", CANDIDATES)
def test_what_could_serve_is_written_exactly(name: str) -> None:
    learned = draw_world(3_000, 1).trial
    judged = draw_world(500, 2).trial.features.astype(np.float32)
    model = fit_blend(learned, (*LEARNERS, SHRUNK), hedged(CANDIDATES[name]))
    session = ort.InferenceSession(uplift_to_onnx(model, 3))
    served = session.run(None, {"features": judged})[0]
    assert served.shape == (500, 1)
    expected = model(judged.astype(np.float64))
    assert expected.std() > 0.01
    np.testing.assert_allclose(served[:, 0], expected, atol=1e-5)


def test_what_was_never_seen_is_taken_for_the_nearest_that_was() -> None:
    learned = draw_world(2_000, 4).trial
    fitted = fit_blend(learned, LEARNERS, hedged(CANDIDATES["DR-learner boosting"]))
    low, high = learned.features.min(axis=0), np.array([0.5, 1.0, 9.0])
    model = Clipped(low, high, fitted)
    far = np.array([[99.0, -99.0, 0.0], [0.5, low[1], 0.0], [0.1, 0.2, 0.3]], np.float32)
    session = ort.InferenceSession(uplift_to_onnx(model, 3))
    (given,) = session.get_inputs()
    served = session.run(None, {given.name: far})[0][:, 0]
    assert served[0] == pytest.approx(served[1], abs=1e-6)
    np.testing.assert_allclose(served, model(far.astype(np.float64)), atol=1e-5)
    assert served[2] == pytest.approx(fitted(far[2:].astype(np.float64))[0], abs=1e-5)


def test_what_is_no_sum_of_lines_and_trees_is_refused() -> None:
    learned = draw_world(1_000, 3).trial
    for learner in (OneModel(Boosting(num_trees=2)), OneModel(Logistic(degree=2))):
        with pytest.raises(ValueError, match="cannot be written"):
            uplift_to_onnx(learner.fit(learned), 3)
