"""Nothing here is about text: which matrices of an image classifier suffer from 3-bit weights?"""

import torch
from transformers import ViTConfig, ViTForImageClassification

import klens

torch.manual_seed(0)
config = ViTConfig(image_size=32, patch_size=8, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                   num_labels=10)  # fmt: skip
model = ViTForImageClassification(config)
with torch.no_grad():
    model.classifier.weight *= 20  # so that an untrained model has opinions
batches = [torch.randn(16, 3, 32, 32) for _ in range(2)]

scores = klens.rank_layers(model, batches, forward_step=lambda m, images: m(pixel_values=images).logits, schemes="int3-channel",
                           metrics=["kl", "top1"])  # fmt: skip
worst = scores.ranked()[0]
print(f"{len(scores)} matrices; the worst is {worst['layer']}")
