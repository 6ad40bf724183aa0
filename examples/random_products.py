"""Products of random matrices, and why eigenvalues do not tell what becomes of them (D2L §3.15.1, in English §5.4.1).

The book multiplies a hundred 4 × 4 matrices of normal numbers and gets a product that is astronomically large: "the
matrix product explodes". It does. It also says that such products can have eigenvalues of any size, and asks for
bounds on the eigenvalues of a product. Here it is too simple: what a chain of layers does to a signal, or a gradient,
is a matter of *singular values*.

- A matrix with both eigenvalues 1/2 may stretch a vector a hundredfold; in a product of such matrices, each followed
  by its transpose, eigenvalues 1/2 explode. Of singular values it is true that
  σ_max(AB) ≤ σ_max(A) σ_max(B) and σ_min(AB) ≥ σ_min(A) σ_min(B); of eigenvalues no such bounds hold. So keep singular
  values near 1, as orthogonal matrices do exactly: a hundred of them change no length at all.
- With variance 1/n the *mean* square of the signal is preserved in every layer, to the letter of the derivation. The
  *typical* signal shrinks all the same: its logarithm drifts by ½ (ψ(n/2) + ln(2/n)) per layer (the Lyapunov
  exponent), −0.135 for n = 4: a factor 1e-6 in a hundred layers. The mean is carried by the few products that explode.
- The larger n, the less of this: −1/(2n) per layer.

And the same product as a network of a hundred linear layers in float32: gone, one way or the other (nan is what comes
of inf − inf), unless the matrices are orthogonal.
"""

import math

import numpy as np

import minigrad as mg
from minigrad import init, nn

rng = np.random.default_rng(0)
DEPTH = 100

product = np.eye(4)
for _ in range(DEPTH):
    product = rng.standard_normal((4, 4)) @ product
print("a product of 100 matrices, 4 x 4, of N(0, 1) numbers:")
print(np.array2string(product, formatter={"float": "{:9.1e}".format}, prefix="  "))
assert 1e20 < np.abs(product).max() < 1e35, "it should explode"

half = np.array([[0.5, 100.0], [0.0, 0.5]])
chain = np.linalg.matrix_power(half.T @ half, 5)
print(f"\neigenvalues of a matrix: {np.linalg.eigvals(half)}, singular values: {np.linalg.svd(half)[1].round(4)}")
print(f"ten of them, every other one transposed, stretch a vector by {np.linalg.norm(chain, 2):.1e}")
assert np.array_equal(np.linalg.eigvals(half), [0.5, 0.5])
assert np.linalg.norm(chain, 2) > 1e19, "eigenvalues do not bound it"
worst = 0.0
for _ in range(200):
    a, b = rng.standard_normal((2, 5, 5))
    s, t, st = (np.linalg.svd(m)[1] for m in (a, b, a @ b))
    assert st[0] <= s[0] * t[0] * (1 + 1e-12), "the largest singular values bound it"
    assert st[-1] >= s[-1] * t[-1] * (1 - 1e-9), "and so do the smallest"
    radius = [np.abs(np.linalg.eigvals(m)).max() for m in (a, b, a @ b)]
    worst = max(worst, radius[2] / (radius[0] * radius[1]))
print(f"of 200 random pairs, the spectral radius of AB was up to {worst:.1f} times the product of those of A and B")
assert worst > 1

print("\nN(0, 1/n), 100 layers      log of the length, per layer      mean square   singular values")
print("  width                    measured        theory           of outputs    largest / smallest")
for n in (4, 16, 64):
    digamma = sum(1 / k for k in range(1, n // 2)) - np.euler_gamma  # of n / 2
    theory, runs = 0.5 * (digamma + math.log(2 / n)), 400 if n < 64 else 50
    x = np.ones((runs, n, 1))
    for _ in range(DEPTH):
        x = rng.standard_normal((runs, n, n)) / math.sqrt(n) @ x
    logs = 0.5 * np.log(np.mean(x * x, axis=(1, 2)))
    spread = np.eye(n)
    for _ in range(10):
        spread = rng.standard_normal((n, n)) / math.sqrt(n) @ spread
    values = np.linalg.svd(spread)[1]
    print(f"  {n:<20} {logs.mean() / DEPTH:12.4f} {theory:13.4f} {np.mean(x * x):18.2g} {values[0] / values[-1]:18.1e}")
    error = logs.std() / math.sqrt(runs) / DEPTH
    assert abs(logs.mean() / DEPTH - theory) < 5 * error, "the drift is not the Lyapunov exponent"
print("  (singular values: of ten layers. The mean over the runs need not be 1: few of them carry it.)")

print("\n100 linear layers of 64 in float32     length of the output   of the gradient at the input")
for name, rule in {
    "N(0, 1)": init.normal(),
    "N(0, 0.01^2)": init.normal(std=0.01),
    "orthogonal": init.orthogonal(),
}.items():
    net = nn.Sequential(*[nn.Linear(64, 64, bias=False, weight_init=rule) for _ in range(DEPTH)]).initialize(seed=0)
    x = mg.tensor(np.full((1, 64), 0.125, "float32"), requires_grad=True)
    with np.errstate(all="ignore"):
        y = net(x)
        y.backward(np.full((1, 64), 0.125, "float32"))
        up, down = (float(np.linalg.norm(a.data.astype("float64"))) for a in (y, x.grad))
    print(f"  {name:<34} {up:20.6g} {down:24.6g}")
    if name == "orthogonal":
        assert abs(up - 1) < 1e-4 > abs(down - 1), "orthogonal layers keep lengths"
    else:
        assert up == 0.0 or not math.isfinite(up), "float32 should have lost it"
