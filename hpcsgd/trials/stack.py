"""temporary"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, vmap

from hpcsgd.models import build_model
from hpcsgd.trials.groups import SizePlan
from hpcsgd.trials.workshop import Workshop


class TrialStack:
    def __init__(self, shop: Workshop, plan: SizePlan, seeds, points) -> None:
        config = shop.config
        self.shop = shop
        models = [build_model(config.model, shop.dataset.shape, shop.dataset.num_classes, s).to(shop.device, shop.dtype) for s in seeds]
        self.base = models[0]
        self.names = [n for n, _ in self.base.named_parameters()]
        self.params = [torch.stack([dict(m.named_parameters())[n].detach() for m in models]).requires_grad_() for n in self.names]
        self.vel = [torch.zeros_like(p) for p in self.params]
        self.points = list(points)
        self._vectors()

    def _vectors(self):
        mk = lambda f: torch.tensor([f(p) for p in self.points], dtype=self.shop.dtype, device=self.shop.device)
        self.lr = mk(lambda p: p["learning_rate"])
        self.mu = mk(lambda p: p.get("momentum", self.shop.config.optimizer.momentum))
        self.dec = mk(lambda p: p.get("learning_rate_decay_steps", 1e30))
        self.end = mk(lambda p: p.get("end_learning_rate_factor", 0.0))
        self.sm = mk(lambda p: p.get("label_smoothing", 0.0))

    def logits(self, images, each=False):
        f = lambda ps, x: functional_call(self.base, dict(zip(self.names, ps)), (x,))
        return vmap(f, in_dims=(0, 0 if each else None))(tuple(self.params), images)

    def step(self, step, images, labels):
        out = self.logits(images, True)
        logp = F.log_softmax(out, -1)
        ce = -logp.gather(2, labels.unsqueeze(2)).squeeze(2)
        sm = self.sm.unsqueeze(1)
        loss = ((1 - sm) * ce - sm * logp.mean(2)).mean(1)
        grads = torch.autograd.grad(loss.sum(), self.params)
        eta = self.lr * (self.end + (1 - self.end) * (1 - (step / self.dec).clamp(max=1)))
        with torch.no_grad():
            for p, v, g in zip(self.params, self.vel, grads):
                shape = (-1,) + (1,) * (p.dim() - 1)
                mu, e = self.mu.view(shape), eta.view(shape)
                v.mul_(mu).add_(g)
                p.sub_(e * (g + mu * v) if self.shop.config.optimizer.nesterov else e * v)
        return loss.detach()

    def keep(self, rows):
        self.params = [p.detach()[rows].requires_grad_() for p in self.params]
        self.vel = [v[rows] for v in self.vel]
        self.points = [self.points[r] for r in rows]
        self._vectors()


def make_stack(shop, plan, seeds, points):
    return TrialStack(shop, plan, seeds, points)
