"""A script of DistributedDataParallel, timed by four lines of hpcsgd, under mpirun or torchrun:

mpirun -n 2 python jobs/own/ddp_timed.py
torchrun --nproc-per-node 2 jobs/own/ddp_timed.py
"""

import os
import sys

import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import hpcsgd


def main(steps: int) -> None:
    for name, given in {"RANK": "OMPI_COMM_WORLD_RANK", "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE"}.items():
        os.environ.setdefault(name, os.environ.get(given, ""))
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "29731")
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)
    points = torch.randn(32 * steps * size, 8, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(points, (points.sum(1) > 0).long())
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loader = DataLoader(data, batch_size=32, sampler=DistributedSampler(data, size, rank))
    with hpcsgd.session(model, optimizer, algorithm=None, run_dir="runs/ddp_timed") as run:
        for inputs, classes in run.batches(loader):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), classes)
            loss.backward()
            run.step()
    print(f"rank {rank}: last loss {loss.item():.9g}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(steps=int(sys.argv[1]) if len(sys.argv) > 1 else 50)
