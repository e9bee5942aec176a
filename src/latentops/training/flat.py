"""All parameters in one buffer, so that the optimiser is one fused call."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from latentops.training.members import whole_vectors

BETAS = (0.9, 0.999)
EPSILON = 1e-8

CUT = 2**16
"""Numbers that a GPU's optimiser gives to a multiprocessor at a time, whatever it has of them."""

LEAST = 2**10
"""Numbers that are worth a multiprocessor."""


class Flat:
    """A buffer `[numbers]` of which the given stacked parameters `[members, …]` become views.

    So do their gradients, of a buffer of the same size: a backward pass adds to them in place, and nothing is
    copied. Parameters lie one after the other, each filled up to whole vectors, because the fused optimiser
    rounds a vector's tail otherwise than the rest, and a member's numbers must not depend on where they lie.

    Members leave the buffer as their training ends; the best of each is kept aside. Weights decay where they
    are asked to, what is `undecayed` never does. `buffers`, stacked as well, aren't learned but leave and are
    kept with their members. Gradients have to be cleared before each backward pass.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        undecayed: Sequence[nn.Parameter] = (),
        buffers: Sequence[Tensor] = (),
    ) -> None:
        self.parameters = [*parameters, *undecayed]
        self.buffers = buffers
        self.decayed = len(parameters)
        self.initial = [parameter.detach().clone() for parameter in self.parameters]
        self.best = [value.clone() for value in (*self.initial, *buffers)]
        self.steps = torch.zeros((), device=self.initial[0].device)
        self._lay(self.initial, [torch.zeros_like(value) for value in self.initial] * 2)

    def clear(self) -> None:
        """Set all gradients to zero."""
        for gradient in self.gradients:
            gradient.zero_()

    @torch.no_grad()
    def step(self, rate: Float[Tensor, ""], kept: Float[Tensor, "1"] | None = None) -> None:
        """One step of Adam (Kingma & Ba 2015) at learning rate `rate`.

        Of weights that decay only the share `kept` goes into it, if given: the decay is decoupled (Loshchilov
        & Hutter 2019, algorithm 2).
        """
        if kept is not None:
            self.buffer[: sum(map(whole_vectors, self.sizes[: self.decayed]))].mul_(kept)
        self.steps.add_(1)
        every = self.buffer, self.gradient, self.mean, self.square
        numbers, gradients, means, squares = (torch.split(each, self.piece) for each in every)
        torch._fused_adam_(
            numbers, gradients, means, squares, [], [self.steps] * len(numbers),
            amsgrad=False, maximize=False,
            beta1=BETAS[0], beta2=BETAS[1], eps=EPSILON, lr=rate, weight_decay=0.0,
        )  # fmt: skip

    def clip(self, longest: float) -> None:
        """Shorten each member's gradient to `longest`, if its norm over all parameters is more.

        Pascanu, Mikolov & Bengio 2013, algorithm 1. A gradient that is no number stays its member's own.
        """
        square = torch.zeros(len(self.gradients[0]), device=self.gradient.device)
        for gradient in self.gradients:
            # Other sums than these round by how many members there are.
            square = square + torch.linalg.vector_norm(gradient.view(len(square), -1), dim=1).square()
        share = (longest / square.sqrt()).clamp(max=1.0)
        for gradient in self.gradients:
            gradient.mul_(share.view(-1, *(1,) * (gradient.ndim - 1)))

    def state(self) -> dict[str, Tensor]:
        """All numbers of the members in training, their moments, and the best of everyone."""
        learned = {"numbers": self.buffer, "mean": self.mean, "square": self.square, "steps": self.steps}
        kept = {f"best.{at}": value for at, value in enumerate(self.best)}
        return learned | kept | {f"buffer.{at}": value for at, value in enumerate(self.buffers)}

    def remember(self, better: Bool[Tensor, " members"], positions: Int[Tensor, " members"]) -> None:
        """Keep the present numbers of the members that got `better`; `positions` are those in the stack."""
        for best, value in zip(self.best, (*self.parameters, *self.buffers), strict=True):
            best[positions[better]] = value.detach()[better]

    def keep(self, going: Bool[Tensor, " members"]) -> None:
        """Go on with these members alone; what they have learned and their moments come along."""
        moments = [*self._views(self.mean), *self._views(self.square)]
        self._lay([p.detach()[going] for p in self.parameters], [each[going] for each in moments])
        for buffer in self.buffers:
            buffer.data = buffer[going]

    def restore(self) -> None:
        """Put every member's best numbers into parameters and buffers, and let go of the gradients."""
        for value, best in zip((*self.parameters, *self.buffers), self.best, strict=True):
            value.grad = None
            value.data = best

    def moved(self) -> Bool[Tensor, " members"]:
        """Whether each of a member's parameters differs, at its best, from its initial value somewhere."""
        pairs = zip(self.best, self.initial, strict=False)  # buffers come last, and may stay
        return torch.stack([(best != initial).view(len(best), -1).any(1) for best, initial in pairs]).all(0)

    def _lay(self, values: Sequence[Tensor], moments: Sequence[Tensor]) -> None:
        """New buffers that hold `values` and, first means, then squares, the `moments`; zero gradients."""
        self.sizes = [value.numel() for value in values]
        numbers = sum(map(whole_vectors, self.sizes))
        self.buffer, self.gradient, self.mean, self.square = values[0].new_zeros(4, numbers).unbind()
        self.piece = _piece(self.buffer)
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.data = value  # of the shape that the views below are to have
        self._fill(self.buffer, values)
        self._fill(self.mean, moments[: len(values)])
        self._fill(self.square, moments[len(values) :])
        self.gradients = self._views(self.gradient)
        places = zip(self.parameters, self._views(self.buffer), self.gradients, strict=True)
        for parameter, value, gradient in places:
            parameter.grad = None
            parameter.data = value
            parameter.grad = gradient

    def _fill(self, buffer: Float[Tensor, " numbers"], values: Sequence[Tensor]) -> None:
        for place, value in zip(self._views(buffer), values, strict=True):
            place.copy_(value)

    def _views(self, buffer: Float[Tensor, " numbers"]) -> list[Tensor]:
        """Where each parameter lies in such a buffer, in the parameter's shape."""
        parts = torch.split(buffer, [whole_vectors(size) for size in self.sizes])
        return [p[:n].view(q.shape) for p, n, q in zip(parts, self.sizes, self.parameters, strict=True)]


def _piece(buffer: Tensor) -> int:
    """How many numbers the optimiser takes as one tensor.

    All of them, but of a small buffer on a GPU, which would leave most of itself idle over it: there a share
    for each multiprocessor.
    """
    if not buffer.is_cuda:
        return len(buffer)
    share = len(buffer) // torch.cuda.get_device_properties(buffer.device).multi_processor_count
    return len(buffer) if share > CUT else max(whole_vectors(share), LEAST)
