"""Which layer of a model of one's own is the fragile one? Here the second block, whose weights have an outlier."""

import torch

import klens


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


class Model(torch.nn.Module):
    def __init__(self, width=64, vocabulary=100):
        super().__init__()
        self.embed = torch.nn.Embedding(vocabulary, width)
        self.blocks = torch.nn.ModuleList(Block(width) for _ in range(3))
        self.head = torch.nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


torch.manual_seed(0)
model = Model()
with torch.no_grad():
    model.blocks[1].up.weight[:, 3] *= 20
tokens = torch.randint(0, 100, (4, 64))

scores = klens.rank_layers(model, tokens, schemes="int4-channel", layers="blocks.*", stop=klens.top(1))
print("fragile:", scores.ranked()[0]["layer"])
