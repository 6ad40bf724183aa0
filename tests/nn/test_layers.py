import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

X = np.linspace(-2, 2, 12, dtype="f4").reshape(3, 4)

MODULES = [
    (nn.Tanh(), mg.tanh),
    (nn.Sigmoid(), mg.sigmoid),
    (nn.ReLU(), mg.relu),
    (nn.LeakyReLU(0.2), lambda x: mg.leaky_relu(x, 0.2)),
    (nn.ELU(0.5), lambda x: mg.elu(x, 0.5)),
    (nn.SELU(), mg.selu),
    (nn.GELU("tanh"), lambda x: mg.gelu(x, "tanh")),
    (nn.SiLU(), mg.silu),
    (nn.Softplus(), mg.softplus),
    (nn.Softmax(0), lambda x: mg.softmax(x, 0)),
    (nn.LogSoftmax(0), lambda x: mg.log_softmax(x, 0)),
    (nn.Identity(), lambda x: x),
]


@pytest.mark.parametrize(("module", "function"), MODULES, ids=lambda m: repr(m) if isinstance(m, nn.Module) else "")
def test_activations_are_their_ops(module, function):
    x = mg.tensor(X)
    assert mg.tensor(module(x)).data.tobytes() == mg.tensor(function(x)).data.tobytes()


def test_linear():
    layer = nn.Linear(4, 2).initialize(0)
    assert layer.weight.shape == (2, 4)
    y = layer(mg.tensor(X))
    np.testing.assert_allclose(y.data, X @ layer.weight.data.T + layer.bias.data, rtol=1e-5)
    assert nn.Linear(4, 2, bias=False).bias is None
    assert [n for n, _ in nn.Linear(4, 2, bias=False).named_parameters()] == ["weight"]
    assert nn.Linear(4, 2, dtype="float64").bias.dtype == np.float64
    assert abs(nn.Linear(400, 1000).bias.data).max() <= 0.05  # 1/√400, for the bias too


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.Linear(2.5, 2), TypeError, "in_features must be an integer"),
        (lambda: nn.Linear(2, -1), ValueError, "out_features must not be negative"),
        (lambda: nn.Linear(2, 1, bias=False, bias_init=0.0), ValueError, "bias is False"),
        (lambda: nn.Linear(2, 1, dtype="int64"), TypeError, "float dtype"),
        (lambda: nn.Linear(3, 2)(mg.tensor(X)), ValueError, r"linear: k is 4 in x \(3, 4\) but 3 in w \(2, 3\)"),
        (lambda: nn.Sequential(mg.tanh), TypeError, "layer 0 must be a module"),
        (lambda: nn.Sequential(nn.Tanh), TypeError, "the class Tanh: call it"),
        (lambda: nn.Sequential(forward=nn.Tanh()), ValueError, "no layer can be named 'forward'"),
        (lambda: nn.Sequential(nn.Tanh())[1], IndexError, "no layer 1 of 1"),
        (lambda: nn.Sequential(nn.Tanh())["a"], KeyError, "no layer is named 'a'"),
        (lambda: nn.Dropout(1.0), ValueError, "rate must lie in"),
        (lambda: nn.GELU("tan"), ValueError, "approximate"),
    ],
)
def test_bad_input(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_sequential():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), head=nn.Linear(3, 2))
    assert [name for name, _ in net.named_modules()] == ["", "0", "1", "head"]
    assert list(net) == [net[0], net[1], net.head]
    tail = net[1:]
    assert list(tail) == [net[1], net.head]
    assert tail(net[0](mg.tensor(X))).data.tobytes() == net(mg.tensor(X)).data.tobytes()
    net.eval()  # an attribute of its own is no layer
    assert len(net) == 3
    net.head = nn.Identity()
    assert net(mg.tensor(X)).shape == (3, 3)
    assert nn.Sequential()(X) is X


def test_flatten():
    x = mg.tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(2)(x).shape == (2, 3, 4)
    nn.Flatten()(x).sum().backward()
    assert x.grad.shape == (2, 3, 4)


def masks(net, calls=3, n=64):
    return [net(mg.tensor([1.0] * n)).tolist() for _ in range(calls)]


def test_dropout_is_a_function_of_seed_path_and_call():
    net = nn.Sequential(a=nn.Dropout(0.5), b=nn.Dropout(0.5))
    first = masks(net.initialize(0))
    assert masks(net.initialize(0)) == first
    assert masks(net.initialize(1)) != first
    assert first[0] != first[1]
    assert masks(net.a) != masks(net.b)
    assert net.a.count.tolist() != net.initialize(0).a.count.tolist() == [0]
    again = nn.Sequential(a=nn.Dropout(0.5), b=nn.Dropout(0.5))  # its state is all in the buffers
    net(mg.tensor([1.0]))
    again.load_state_dict(net.state_dict())
    assert masks(again) == masks(net)


def test_dropout_is_unbiased():
    n, rate = 40_000, 0.3
    y = nn.Dropout(rate).initialize(0)(mg.tensor(np.ones(n, "f4"))).data
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - rate))}
    dropped = (y == 0).mean()
    assert abs(dropped - rate) < 6 * np.sqrt(rate * (1 - rate) / n)
    assert abs(y.mean() - 1) < 6 * np.sqrt(rate / (1 - rate) / n)
    forgot_to_scale = y * (1 - rate)
    assert abs(forgot_to_scale.mean() - 1) > 6 * np.sqrt(rate / (1 - rate) / n)


def test_dropout_backward_uses_the_mask_of_its_own_call():
    layer = nn.Dropout(0.5).initialize(0)
    x = mg.tensor([1.0] * 32, requires_grad=True)
    first = layer(x)
    layer(x)  # moves the counter on
    first.sum().backward()
    assert x.grad.tolist() == first.tolist()


def test_dropout_rests_in_evaluation():
    layer = nn.Dropout(0.9).eval()
    x = mg.tensor([1.0])
    assert layer(x) is x
    assert layer.count.tolist() == [0]
    assert masks(nn.Dropout(0.0)) == [[1.0] * 64] * 3
