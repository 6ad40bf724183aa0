"""Random graphs, driven step by step against an oracle: reverse mode on dictionaries of Python numbers."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

import minigrad as mg


class Oracle:
    """Scalars by number: values, and for each the (parent, derivative) pairs that lead to it."""

    def __init__(self):
        self.values, self.edges, self.freed, self.grads = [], [], set(), {}

    def new(self, value, edges=(), tracked=True):
        self.values.append(value)
        self.edges.append([(p, d) for p, d in edges if self.edges[p] is not None] if tracked else None)
        if self.edges[-1] == [] and edges:
            self.edges[-1] = None  # every parent is a constant
        return len(self.values) - 1

    def behind(self, i):
        seen, todo = set(), [i]
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo += [p for p, _ in self.edges[i]]
        return sorted(seen, reverse=True)

    def backward(self, i, keep):
        """Whether it may run; if so, gradients are added to the leaves."""
        order = self.behind(i)
        inner = {n for n in order if self.edges[n]}
        if inner & self.freed:
            return False
        flow = {i: 1.0}
        for n in order:
            for p, d in self.edges[n]:
                flow[p] = flow.get(p, 0.0) + flow[n] * d
            if not self.edges[n]:
                self.grads[n] = self.grads.get(n, 0.0) + flow[n]
        if not keep:
            self.freed |= inner
        return True


class Graphs(RuleBasedStateMachine):
    tensors = Bundle("tensors")
    numbers = st.floats(-1.5, 1.5).map(lambda v: round(v, 3))

    def __init__(self):
        super().__init__()
        self.oracle, self.mine, self.quiet = Oracle(), {}, None

    def both(self, tensor, value, edges=(), tracked=True):
        i = self.oracle.new(value, edges, tracked and self.quiet is None)
        self.mine[i] = tensor
        return i

    def value(self, i):
        return self.oracle.values[i]

    @initialize(target=tensors, x=numbers)  # no rule then waits for a tensor to be there
    def first(self, x):
        return self.leaf(x, False)

    @rule(target=tensors, x=numbers, constant=st.booleans())
    def leaf(self, x, constant):
        i = self.oracle.new(x, tracked=not constant)
        self.mine[i] = mg.tensor(np.array(x), requires_grad=not constant)
        return i

    @rule(target=tensors, a=tensors, b=tensors)
    def add(self, a, b):
        return self.both(self.mine[a] + self.mine[b], self.value(a) + self.value(b), [(a, 1.0), (b, 1.0)])

    @rule(target=tensors, a=tensors, b=tensors)
    def mul(self, a, b):
        x, y = self.value(a), self.value(b)
        if abs(x * y) > 1e6:
            return multiple()
        return self.both(self.mine[a] * self.mine[b], x * y, [(a, y), (b, x)])

    @rule(target=tensors, a=tensors)
    def tanh(self, a):
        y = math.tanh(self.value(a))
        return self.both(mg.tanh(self.mine[a]), y, [(a, (1 + y) * (1 - y))])

    @rule(target=tensors, parts=st.lists(tensors, min_size=1, max_size=4))
    def total(self, parts):
        value = math.fsum(self.value(p) for p in parts)
        return self.both(mg.stack([self.mine[p] for p in parts]).sum(), value, [(p, 1.0) for p in parts])

    @rule(target=tensors, a=tensors)
    def detach(self, a):
        return self.both(self.mine[a].detach(), self.value(a), tracked=False)

    @precondition(lambda self: self.quiet is None)
    @rule()
    def enter_no_grad(self):
        self.quiet = mg.no_grad()
        self.quiet.__enter__()

    @precondition(lambda self: self.quiet is not None)
    @rule()
    def leave_no_grad(self):
        self.quiet.__exit__(None, None, None)
        self.quiet = None

    @rule(a=tensors, keep=st.booleans())
    def backward(self, a, keep):
        mine = self.mine[a]
        if self.oracle.edges[a] is None:
            assert not mine.requires_grad
            return
        if self.oracle.backward(a, keep):
            mine.backward(retain_graph=keep)
        else:
            with pytest.raises(RuntimeError, match="freed by an earlier backward"):
                mine.backward(retain_graph=keep)

    @rule(a=tensors)
    def zero(self, a):
        if self.oracle.edges[a] == []:
            self.mine[a].grad = None
            self.oracle.grads.pop(a, None)

    @invariant()
    def agree(self):
        for i, mine in self.mine.items():
            assert math.isclose(mine.item(), self.value(i), rel_tol=1e-11, abs_tol=1e-11)
            assert mine.requires_grad == (self.oracle.edges[i] is not None)
            known = self.oracle.grads.get(i)
            assert (mine.grad is None) == (known is None)
            if known is not None:
                assert math.isclose(mine.grad.item(), known, rel_tol=1e-9, abs_tol=1e-9)

    def teardown(self):
        if self.quiet is not None:
            self.quiet.__exit__(None, None, None)


TestGraphs = Graphs.TestCase
