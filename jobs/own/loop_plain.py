"""A training loop as it is written with torch alone: the start of loop.py, which adds local SGD and a log to it."""

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


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
    loader = DataLoader(train, batch_size=32)
    for epoch in range(epochs):
        for points, classes in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(points), classes)
            loss.backward()
            optimizer.step()
        scheduler.step()
        points, classes = test.tensors
        accuracy = (model(points).argmax(1) == classes).float().mean().item()
        print(f"epoch {epoch + 1}: last loss {loss.item():.9g}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 5)
