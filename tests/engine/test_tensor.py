"""A tensor among arrays and numbers."""

import pickle

import numpy as np
import pytest

import minigrad as mg

ARRAY = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_numbers_become_float32_and_arrays_keep_their_dtype():
    assert mg.tensor(1).dtype == mg.tensor([1, 2.5]).dtype == np.float32
    assert mg.tensor([True]).dtype == bool
    assert mg.tensor(ARRAY).dtype == np.float64
    assert mg.tensor(np.arange(3)).dtype == np.int64
    assert mg.tensor(np.float64(1)).dtype == np.float64
    assert mg.tensor(mg.tensor(ARRAY)).dtype == np.float64
    assert mg.tensor(ARRAY, dtype=np.float32).dtype == np.float32


def test_tensor_copies_and_from_numpy_shares():
    a = ARRAY.copy()
    assert not np.shares_memory(mg.tensor(a).data, a)
    assert np.shares_memory(mg.from_numpy(a).data, a)


@pytest.mark.parametrize("data", ["text", None, [1, [2]], [1j], object()])
def test_what_is_no_array_of_numbers_is_refused(data):
    with pytest.raises((TypeError, ValueError), match="tensor:"):
        mg.tensor(data)


@pytest.mark.parametrize("other", [ARRAY, 2.0, np.float32(2), np.ones((1, 3), np.float32), [1.0, 2.0, 3.0]])
@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: a**b,
        lambda a, b: a < b,
        lambda a, b: a <= b,
        lambda a, b: a > b,
        lambda a, b: a >= b,
        lambda a, b: a == b,
        lambda a, b: a != b,
    ],
)
def test_operators_take_arrays_and_numbers_on_both_sides(f, other):
    t, plain = mg.tensor(ARRAY), np.asarray(other) if isinstance(other, list) else other
    for got, expected in ((f(t, other), f(ARRAY, plain)), (f(other, t), f(plain, ARRAY))):
        assert isinstance(got, mg.Tensor)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got.data, expected, rtol=1e-15)


def test_matmul_on_both_sides():
    t = mg.tensor(ARRAY)
    np.testing.assert_allclose((ARRAY.T @ t).data, ARRAY.T @ ARRAY)
    np.testing.assert_allclose((t @ ARRAY.T).data, ARRAY @ ARRAY.T)
    np.testing.assert_allclose((ARRAY[0] @ t.T).data, ARRAY[0] @ ARRAY.T)
    assert (t[0] @ ARRAY[0]).shape == ()


def test_an_array_defers_to_a_tensor_that_needs_a_gradient():
    t = mg.tensor(ARRAY, requires_grad=True)
    y = ARRAY + t
    assert isinstance(y, mg.Tensor)
    y.sum().backward()
    assert t.grad.tolist() == np.ones((2, 3)).tolist()


def test_asarray_gives_the_array_or_an_error_never_objects():
    t = mg.tensor(ARRAY)
    assert np.asarray(t).dtype == np.float64
    assert np.asarray(t, np.float32).dtype == np.float32
    assert np.shares_memory(np.asarray(t), t.data)
    assert t.numpy() is not None
    w = mg.tensor(ARRAY, requires_grad=True)
    for attempt in (np.asarray, np.array, lambda x: x.numpy(), lambda x: np.array([x, x])):
        with pytest.raises(RuntimeError, match=r"detach\(\)\.numpy\(\)"):
            attempt(w)
    with pytest.raises(TypeError):
        np.sin(t)


def test_the_truth_of_many_elements_is_ambiguous():
    assert mg.tensor(1.0)
    assert not mg.tensor([0.0])
    for shape in [(2,), (0,), (2, 2)]:
        with pytest.raises(ValueError, match="ambiguous"):
            bool(mg.tensor(np.ones(shape)))


def test_numbers_out_of_it():
    assert mg.tensor(2.5).item() == float(mg.tensor([2.5])) == 2.5
    assert int(mg.tensor(np.array(3))) == 3
    assert [10, 20, 30][mg.tensor(np.array(1))] == 20
    with pytest.raises(TypeError, match="no index"):
        [1, 2][mg.tensor(1.0)]
    with pytest.raises(ValueError, match="one element"):
        mg.tensor(ARRAY).item()
    with pytest.raises(TypeError, match="no length"):
        len(mg.tensor(1.0))
    assert len(mg.tensor(ARRAY)) == 2
    assert [row.shape for row in mg.tensor(ARRAY)] == [(3,), (3,)]


def test_its_text():
    assert repr(mg.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(mg.tensor(ARRAY[0], requires_grad=True)) == "tensor([1., 2., 3.], dtype=float64, requires_grad=True)"
    assert repr(mg.tensor(1.0, requires_grad=True) * 2) == "tensor(2., op=mul)"


def test_a_tensor_is_hashed_by_identity():
    a, b = mg.tensor(1.0), mg.tensor(1.0)
    assert len({a, b, a}) == 2


def test_rebinding_a_leafs_data():
    x = mg.tensor(ARRAY, requires_grad=True)
    x.data = np.ones(2)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match="computed by mul"):
        (x * 2).data = np.ones(2)
    with pytest.raises(TypeError, match="need an ndarray"):
        x.data = [1.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_unpickled_array_has_the_same_bits(dtype):
    """Its dtype equals NumPy's own, but is another object."""
    x = np.linspace(-2, 2, 7, dtype=dtype)
    again = pickle.loads(pickle.dumps(x))
    for make in (lambda a: a, mg.from_numpy, mg.tensor):
        results = [mg.tanh(make(a)) for a in (x, again)]
        assert len({np.asarray(r).tobytes() for r in results}) == 1
    leaves = [mg.tensor(a, requires_grad=True) for a in (x, again)]
    for leaf in leaves:
        mg.mse_loss(mg.tanh(leaf), again).backward()
    assert leaves[0].grad.data.tobytes() == leaves[1].grad.data.tobytes()
