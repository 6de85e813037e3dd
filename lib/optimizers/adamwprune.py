"""Train and prune with AdamWPrune: AdamW that ranks weights by its moments and frees those of pruned weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

from ..pruning.criteria import CRITERIA
from ..pruning.prunable import parameter_groups
from ..pruning.pruner import check_floors
from ..pruning.schedule import CubicSchedule, exchange_fraction
from ..pruning.score_histogram import MaskUpdate, NotFinite
from . import checks, group_step, lean, mask_updates, memory_format, shortfall, sparse_state, state_loading
from .outside_changes import OutsideChanges


class AdamWPrune(Optimizer):
    r"""Prune while training, by what AdamW keeps anyway: its two moments tell which weights matter least.

    A surviving weight takes the step of AdamW (Loshchilov & Hutter, arXiv 1711.05101)::

        w <- w - lr * weight_decay * w
        m <- beta1 m + (1 - beta1) g             m_hat = m / (1 - beta1^t)
        v <- beta2 v + (1 - beta2) g^2           v_hat = v / (1 - beta2^t)
        w <- w - lr * m_hat / (sqrt(v_hat) + eps)

    Every ``update_interval`` steps between ``start_step`` and ``end_step`` the surviving weights of least importance
    (``criterion``, by default ``|w| * v_hat^exponent``) are set to zero, as many as the cubic ramp asks for, exactly.
    From then on they take part in nothing: their moments are freed, and the mask costs one bit a weight. At sparsity s
    optimizer and pruning together hold ``8 (1 - s) + 1/8`` bytes per prunable float32 weight, where AdamW holds 8.

    ``step()`` does all of this. With ``sparsity=0`` it is ``torch.optim.AdamW``, bit for bit on CPU.

    Args:
        params (nn.Module or iterable): a model, of which the weights of linear layers and convolutions are pruned (see
            ``prunable_parameters``); or parameters, named parameters or groups of either. Messages use the names. A
            group's key ``prunable`` (bool) says whether its tensors are pruned; without it, those are that have two
            dimensions or more and more than one row and column, embeddings among them.
        lr (float or Tensor): learning rate, at least 0. Default: 1e-3.
        betas (tuple of two floats): decay of the two moments, each in [0, 1). Default: (0.9, 0.999).
        eps (float): added to the root of the second moment, at least 0. Default: 1e-8.
        weight_decay (float): decoupled weight decay, at least 0. Parameters of one dimension (biases, norms) usually
            get a group of their own with 0. Default: 1e-2.
        sparsity (float): fraction of the prunable weights that is zero in the end, in [0, 1). Default: 0.
        start_step (int): optimizer step at which the ramp starts. Default: 0.
        end_step (int or None): optimizer step at which the sparsity is reached; needed unless ``sparsity`` is 0. Leave
            a good part of the training after it. Default: None.
        update_interval (int or None): optimizer steps between two mask updates. Default: a tenth of the ramp, but at
            most 100.
        criterion (str): ``fisher``, ``first_order``, ``movement`` or ``hybrid``, see ``pruning/criteria.py``.
            Default: ``fisher``.
        exponent (float): a of ``|w| * v_hat^a``, in [0, 1]; 0 ranks by magnitude. Default: 0.25.
        ranking (str): ``global``, ``layer_adaptive``, ``uniform`` or ``erk``, see ``pruning/selection.py``.
            Default: ``layer_adaptive``.
        min_density (float): fraction of its weights that every layer keeps at least, in [0, 1]. Default: 0.01.
        mode (str): ``gradual`` ramps up. ``lean`` ramps up too, but from the first step only as many weights as will
            survive hold moments (see ``lean.py``), so that the peak of the memory is hardly above its end; it needs the
            criterion ``fisher`` and no regrowth. ``dynamic`` is sparse from the first step (the weights of largest
            ``|w g|`` survive: SNIP, arXiv 1810.02340) and only exchanges weights after that, as ``regrowth`` says, so
            that the peak of the memory is its end. It needs regrowth: without, the mask of the first step stays.
            Default: ``gradual``.
        regrowth (float): fraction of the survivors exchanged at an update for the pruned weights of largest gradient,
            in [0, 0.5], decaying to 0 along the ramp (RigL, arXiv 1911.11134). Both are looked for in all layers
            together, or in each layer where ``ranking`` goes by shape. A regrown weight starts at zero with
            ``v_hat = g^2``, so that its first steps are of ordinary size. Default: 0.
        foreach, fused, maximize (bool): as in ``torch.optim.AdamW``. With ``fused`` the step of pruned tensors is
            compiled as well (C on the CPU, Triton on a GPU), where that can be built, and agrees to rounding.
        schedule (CubicSchedule or None): a ready-made schedule, instead of ``sparsity``, ``start_step``, ``end_step``
            and ``update_interval``. Default: None.

    Attributes:
        schedule (CubicSchedule): when and how much is pruned.
        steps (int): optimizer steps taken, the position in the schedule.
        last_update (MaskUpdate or None): what the last mask update of this process did.

    Raises:
        ValueError: naming the argument and its range, or the tensor that cannot be pruned.
        RuntimeError: ``fused`` together with ``foreach``, or with tensors that it does not take.

    Example::

        optimizer = AdamWPrune(model, lr=1e-3, sparsity=0.9, end_step=5000)
        for images, labels in batches:
            optimizer.zero_grad()
            loss_of(model(images), labels).backward()
            optimizer.step()
        print(f"{optimizer.sparsity():.1%} of the prunable weights are zero")
    """

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        sparsity: float = 0.0,
        start_step: int = 0,
        end_step: int | None = None,
        update_interval: int | None = None,
        criterion: str = "fisher",
        exponent: float = 0.25,
        ranking: str = "layer_adaptive",
        min_density: float = 0.01,
        mode: str = "gradual",
        regrowth: float = 0.0,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
        schedule: CubicSchedule | None = None,
    ) -> None:
        checks.check_adam_args(lr, betas, eps, weight_decay)
        checks.check_implementation(foreach, fused, lr)
        checks.check_pruning_args(criterion, exponent, ranking, min_density, mode, regrowth)
        if schedule is None:
            schedule = CubicSchedule.from_steps(sparsity, start_step, end_step, update_interval)
            shortfall.warn_if_one_jump(schedule)
        elif sparsity or start_step or end_step is not None or update_interval is not None:
            raise ValueError("give either schedule or sparsity, start_step, end_step and update_interval, not both")
        self.schedule = schedule
        self.rule = mask_updates.PruningRule(CRITERIA[criterion], exponent, ranking, min_density)
        self.mode = mode
        self.regrowth = regrowth
        self.last_update: MaskUpdate | None = None
        self._outside_changes = OutsideChanges()
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "fused": fused,
            "maximize": maximize,
            "prunable": None,
            "steps": 0,  # in the groups, where hooks, wrappers and torch.distributed.checkpoint find it
            "mode": mode,
        }
        super().__init__(parameter_groups(params) if isinstance(params, nn.Module) else params, defaults)
        check_floors([tensor.size for tensor in self.prunable_tensors()], schedule.final, min_density)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group. One with a tensor that AdamWPrune cannot work with is not added.

        Args:
            param_group (dict): as for every optimizer, with the key ``prunable`` (bool) if wanted.

        Raises:
            RuntimeError: a tensor that ``fused`` does not take.
            ValueError: a setting out of its range, or a tensor that cannot be pruned: complex, without dimensions, or
                not dense in memory.
        """
        super().add_param_group(param_group)
        self.param_groups[-1]["steps"] = self.steps
        try:
            checks.check_group(self.param_groups[-1])
            added = set(self.param_groups[-1]["params"])
            joined = [tensor for tensor in self.prunable_tensors() if tensor.weight in added]
        except (RuntimeError, ValueError):
            self.param_groups.pop()
            raise
        shortfall.warn_if_too_late(self.schedule, self.steps, joined)

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps taken, the position in the schedule."""
        return int(self.param_groups[0]["steps"])

    @steps.setter
    def steps(self, steps: int) -> None:
        for group in self.param_groups:
            group["steps"] = steps

    @torch.compiler.disable  # traced, the schedule and the compact states would be taken for constants
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one optimizer step, and prune if the schedule says so.

        Args:
            closure (callable, optional): reevaluates the model and returns the loss.

        Returns:
            What ``closure`` returned, or None.

        Raises:
            NotFinite: a score is NaN or infinite at a mask update, so that weights cannot be ranked.
            RuntimeError: a gradient is sparse, or the step is being captured in a CUDA graph.
        """
        checks.check_not_capturing()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if state_loading.only_makes_states(self) and self.steps == 0:
            self._make_states()
            return loss
        if self.steps == 0:
            shortfall.warn_if_nothing_is_prunable(self.schedule, self.prunable_tensors())
        self._outside_changes.restore(self._tensors())
        if self.steps == 0 and self.mode != "gradual" and self.schedule.final:
            tensors = [tensor._replace(state=self.state[tensor.weight]) for tensor in self.prunable_tensors()]
            mask_updates.init_moments(tensors, self.rule, self.schedule.final, dynamic=self.mode == "dynamic")
        for group in self.param_groups:
            group_step.step(group, self._state_of, self.steps)
        self.steps += 1
        is_due = self.schedule.is_update if self.mode == "gradual" else self.schedule.is_early_update
        if is_due(self.steps):
            try:
                self.update_masks()
            except NotFinite:
                self.steps -= 1  # the step was not completed
                raise
            shortfall.warn_if_scores_tell_nothing(self.last_update)
        if self.steps == self.schedule.end:
            shortfall.warn_if_missed(self.schedule, self.steps, self.prunable_tensors())
        self._outside_changes.remember(self._tensors())
        return loss

    def sparsity(self, check: bool = False) -> float:
        """Return the fraction of the prunable weights that is pruned, between 0 and 1.

        Args:
            check (bool): whether to look at the weights as well. Pruned ones that are not zero, because they have been
                set from outside, are set to zero again, with a warning. Default: False.
        """
        if check:
            self._outside_changes.restore(self._tensors(), everything=True)
        tensors = self.prunable_tensors()
        size = sum(tensor.size for tensor in tensors)
        return 1.0 - sum(tensor.num_survivors for tensor in tensors) / size if size else 0.0

    def layer_densities(self) -> list[float]:
        """Return the fraction of surviving weights of each prunable tensor, in the order of the parameter groups."""
        return [tensor.num_survivors / tensor.size for tensor in self.prunable_tensors()]

    def memory_bytes(self) -> dict[str, int]:
        """Return the bytes of ``optimizer_state`` (moments, steps) and ``pruning_state`` (masks) of live tensors."""
        total = {"optimizer_state": 0, "pruning_state": 0}
        for _, state, _ in self._tensors():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    total["pruning_state" if name == "mask" else "optimizer_state"] += value.nbytes
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return the state as every optimizer does; the groups hold ``steps``, the position in the schedule."""
        hook = self.register_state_dict_post_hook(state_loading.drop_derived, prepend=True)
        try:
            return super().state_dict()
        finally:
            hook.remove()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a ``state_dict``; masks and compact moments are brought into the memory order of these parameters.

        Hooks registered by others may change what is loaded before it is checked, and see it once it is complete.

        Args:
            state_dict (dict): what ``state_dict()`` returned, of this version or an older one.

        Raises:
            ValueError: it is another optimizer's, was made in another mode, or has a state that does not fit its
                tensor. Nothing is loaded then.
        """
        before = self.state, self.param_groups
        loading = state_loading.Loading(self.mode, prunes=self.schedule.final > 0.0)
        hooks = (
            self.register_load_state_dict_pre_hook(loading.check),
            self.register_load_state_dict_post_hook(loading.adapt, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
            self._outside_changes.distrust(self._tensors())
            shortfall.warn_if_missed(self.schedule, self.steps, self.prunable_tensors())
        except Exception:
            self.state, self.param_groups = before
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def __repr__(self) -> str:
        """Return mode, schedule and position beside the settings of the groups."""
        s = self.schedule
        pruning = f"{self.mode}, sparsity {s.final:g} from step {s.start} to {s.end}, updated every {s.interval} steps"
        title, _, groups = super().__repr__().partition("\n")
        return f"{title}\n    {pruning}; {self.sparsity():.4g} pruned at step {self.steps}\n{groups}"

    def __getstate__(self) -> dict[str, Any]:
        """Return what copy and pickle need: the base class knows of groups and states alone."""
        names = ("schedule", "rule", "mode", "regrowth", "last_update")
        own = {name: getattr(self, name) for name in names}
        return super().__getstate__() | own | {"_outside_changes": OutsideChanges()}

    def prunable_tensors(self) -> list[mask_updates.PrunableTensor]:
        """Return the prunable tensors, each once. ValueError if one cannot be pruned, should it come to that."""
        tensors: dict[Tensor, mask_updates.PrunableTensor] = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if _is_prunable(weight, group) and weight.requires_grad and weight.numel():
                    if self.schedule.final:
                        checks.check_prunable(weight, group)
                    tensors[weight] = mask_updates.PrunableTensor(weight, self.state.get(weight, {}), group)
        return list(tensors.values())

    def _tensors(self) -> Iterator[tuple[Tensor, sparse_state.State, dict[str, Any]]]:
        """Yield every tensor that has a state, with the state and its parameter group."""
        for group in self.param_groups:
            for weight in group["params"]:
                if state := self.state.get(weight):
                    yield weight, state, group

    @torch.no_grad()
    def update_masks(self) -> None:
        """Prune to what the schedule asks for after ``steps`` steps. ``step`` calls this where an update is due."""
        schedule, sparsity = self.schedule, self.schedule.sparsity(self.steps)
        tensors = [tensor for tensor in self.prunable_tensors() if "exp_avg" in tensor.state]
        if not tensors:
            return
        for tensor in tensors:
            if tensor.weight.dim() == 4:  # had no gradient to step by, perhaps, since its memory order has changed
                memory_format.match(tensor.weight, tensor.state)
        if self.mode == "lean":
            last = self.steps == schedule.end
            self.last_update = mask_updates.reassign_moments(
                tensors, self.rule, sparsity, schedule.final, self.steps, last
            )
        else:
            exchange = exchange_fraction(self.regrowth, schedule.progress(self.steps))
            self.last_update = mask_updates.prune(tensors, self.rule, sparsity, exchange, self.steps)
        if self.steps == schedule.end and any(tensor.weight.is_cuda for tensor in tensors):
            torch.cuda.empty_cache()  # what the ramp has freed goes back to the device, for others to use

    def _make_states(self) -> None:
        """Make the states that a checkpoint of a pruned model is to be loaded into: with a mask."""
        for tensor in self.prunable_tensors() if self.schedule.final else ():
            lean.init_full(tensor.weight, self.state[tensor.weight], bool(tensor.group["fused"]), self.mode == "lean")
        for group in self.param_groups:
            group_step.step(group, self._state_of, self.steps)

    def _state_of(self, weight: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[weight]
        if state:
            return state
        ramp_ahead = self.schedule.final > 0.0 and self.steps < self.schedule.end
        if self.mode == "lean" and ramp_ahead and _is_prunable(weight, group) and weight.numel():
            lean.init_full(weight, state, bool(group["fused"]), with_rows=True)
        else:
            group_step.init_dense(weight, state, bool(group["fused"]))
        return state


def _is_prunable(weight: Tensor, group: dict[str, Any]) -> bool:
    chosen = group.get("prunable")
    if chosen is not None:
        return bool(chosen)
    return weight.dim() >= 2 and weight.shape[0] > 1 and weight.numel() > weight.shape[0]
