"""A CUDA device that is not there: PyTorch believes in one `cuda:0` on a machine without a GPU, and what it would do there is counted.

    from lab.pretended.card import PretendedCard
    with PretendedCard("values") as card:      # numbers too: Mini, tests
        train_lora(unet, data, settings, device="cuda")
    with PretendedCard("shapes") as card:      # shapes alone: SDXL's full size in about a gigabyte
        Trainer(...).step()
    card.ledger.peak, card.ledger.flops, card.ledger.waits

Simulated: where each tensor is (tensors of two devices in one operation raise as CUDA does), its bytes from birth to death, by phase and
by label; the caching allocator (`CachingAllocator`); running out of memory (`ledger.limit`); FLOPs, launches, and every wait of the host
for the device with the line of this project that caused it; autocast and GradScaler as on CUDA.
Not simulated: speed, the kernels' workspaces, the CUDA context, kernels that do not exist for a dtype, streams, several cards,
non-determinism, overflow where CUDA rounds otherwise than the CPU.
"""
