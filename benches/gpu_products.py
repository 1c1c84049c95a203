#!/usr/bin/env python3
"""The products of a Falcon-H1-7B step through cuBLAS on a card: what a library's speed would be, and whether it keeps a row's bits."""

import torch

for n, k in [(6688, 3072), (24576, 3072), (3072, 12288), (130048, 3072)]:
    weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    x = torch.randn(256, k, device="cuda", dtype=torch.bfloat16)
    for rows in (1, 16, 64, 256):
        for i in range(5):
            torch.nn.functional.linear(x[:rows], weights[i % 3])
        torch.cuda.synchronize()
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        for i in range(30):
            torch.nn.functional.linear(x[:rows], weights[i % 3])
        after.record()
        torch.cuda.synchronize()
        us = before.elapsed_time(after) / 30 * 1e3
        alone, among = (torch.nn.functional.linear(x[:r], weights[0])[: rows] for r in (rows, 256))
        print(f"cuBLAS {rows:4} x {k} x {n}: {us:8.1f} us {n * k * 2 / us / 1e6:6.2f} TB/s, rows as among 256: {torch.equal(alone, among)}")
