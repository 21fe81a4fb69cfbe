"""The loop of loop_plain.py by local SGD on any number of ranks: mpirun -n 2 python jobs/own/loop.py"""

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hpcsgd


def make_data(count: int) -> TensorDataset:
    """Points of a plane, whose class is the side of a circle on which they lie."""
    points = torch.randn(count, 2, generator=torch.Generator().manual_seed(count))
    return TensorDataset(points, (points.square().sum(1) > 1.4).long())


def main(epochs: int) -> None:
    torch.manual_seed(0)
    train, test = make_data(1024), make_data(256)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    with hpcsgd.session(model, optimizer, algorithm=hpcsgd.LocalSGD(period=4), run_dir="runs/own_loop") as run:
        loader = DataLoader(train, batch_size=32, sampler=run.sampler(train))
        for epoch in range(epochs):
            for points, classes in run.batches(loader):
                optimizer.zero_grad()
                with run.forward():
                    loss = F.cross_entropy(model(points), classes)
                run.backward(loss)
                run.step()
            scheduler.step()
            points, classes = test.tensors
            with run.consensus() as model:
                accuracy = (model(points).argmax(1) == classes).float().mean().item()
            print(f"epoch {epoch + 1}: last loss {loss.item():.9g}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 5)
