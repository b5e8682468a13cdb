"""The methods' published algorithms in plain PyTorch, step by step as their papers and codes order them.

TRADES (Zhang et al., 2019), FAT and TRADES-FAT (Zhang et al., 2020), FastAT (Wong et al., 2020), FreeAT (Shafahi et
al., 2019), and the NoFrost paper's training on augmented images, Combine and NoFrost* (Wang et al., 2022). Images are
NCHW float64 in [0, 1]; every random number comes from outside. FAT takes images out of its batch as they finish, so
that its batch is re-ordered: `order` says which image is where.
"""

from typing import NamedTuple

import torch
from torch.nn import functional

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class Setting(NamedTuple):
    """The numbers of a method; epsilon, size (of a step) and omega are on the [0, 1] scale."""

    epsilon: float
    size: float
    steps: int = 1
    smoothing: float = 0.0
    beta: float = 1.0
    forwards: int = 2
    tau: int = 0
    omega: float = 0.0
    replays: int = 1


class Twin(torch.nn.Module):
    """Our small-stem ResNet of one block with batch norm, from {"stem/kernel": array, ...} in our layout.

    It takes images in [0, 1]. `seen` grows by (normalized input, running statistics after) at each train-mode forward.
    """

    def __init__(self, arrays):
        super().__init__()
        self.parts, self.paths, self.seen = torch.nn.ModuleDict(), tuple(arrays), []
        for path, value in arrays.items():
            name, _, leaf = path.rpartition("/")
            if leaf == "kernel" and value.ndim == 4:
                size, _, inputs, outputs = value.shape
                self.parts[name] = torch.nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
            elif leaf == "kernel":
                self.parts[name] = torch.nn.Linear(*value.shape)
            elif leaf == "scale":
                self.parts[name] = torch.nn.BatchNorm2d(len(value))
        self.double()
        with torch.no_grad():
            for path, value in arrays.items():
                self._tensor(path).copy_(torch.from_numpy(value.T if value.ndim < 4 else value.transpose(3, 2, 0, 1)))

    def forward(self, images):
        mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
        normalized = (images - mean) / std
        part, relu, block = self.parts, functional.relu, "stage1_block1/"
        x = relu(part["stem_norm"](part["stem"](normalized)))
        out = relu(part[block + "norm1"](part[block + "conv1"](x)))
        out = relu(part[block + "norm2"](part[block + "conv2"](out)))
        out = part[block + "norm3"](part[block + "conv3"](out))
        x = relu(out + part[block + "shortcut_norm"](part[block + "shortcut_conv"](x)))
        if self.training:
            self.seen.append((normalized.detach().clone(), self.read(("mean", "var"))))
        return part["head"](x.mean((2, 3)))

    def read(self, leaves=("kernel", "scale", "bias")):
        """{"stem/kernel": array, ...} in our layout, copies."""
        chosen = (path for path in self.paths if path.rpartition("/")[2] in leaves)
        values = {path: self._tensor(path).detach().numpy().copy() for path in chosen}
        return {path: v.T if v.ndim < 4 else v.transpose(2, 3, 1, 0) for path, v in values.items()}

    def _tensor(self, path):
        name, _, leaf = path.rpartition("/")
        return getattr(self.parts[name], LEAVES[leaf])


def trades(net, optimizer, images, labels, draws, setting):
    """(loss, adversarial images, steps of each image, order) of one update by TRADES."""
    net.eval()
    with torch.no_grad():
        natural = functional.softmax(net(images), dim=1)
    points = images + 0.001 * draws["start"]
    for _ in range(setting.steps):
        points = points.detach().requires_grad_()
        divergence = functional.kl_div(functional.log_softmax(net(points), dim=1), natural, reduction="sum")
        (gradient,) = torch.autograd.grad(divergence, points)
        points = points.detach() + setting.size * torch.sign(gradient)
        points = torch.min(torch.max(points, images - setting.epsilon), images + setting.epsilon)
        points = torch.clamp(points, 0.0, 1.0)
    net.train()
    logits = net(images)
    adversarial = net(points)
    again = net(images) if setting.forwards == 3 else logits
    loss = trades_loss(logits, adversarial, again, labels, setting)
    update(optimizer, loss)
    return loss.item(), points, torch.full((len(images),), setting.steps), torch.arange(len(images))


def trades_loss(natural, adversarial, reference, labels, setting):
    """Cross-entropy on clean images, and beta times the mean divergence of the adversarial prediction."""
    robust = functional.kl_div(
        functional.log_softmax(adversarial, dim=1), functional.softmax(reference, dim=1), reduction="batchmean"
    )
    return functional.cross_entropy(natural, labels, label_smoothing=setting.smoothing) + setting.beta * robust


def early_stop(net, images, labels, draws, setting, loss):
    """(adversarial, clean images, labels, steps of each image, order), all but the steps in the order of leaving."""
    net.eval()
    if loss == "kl":
        points = torch.clamp(images + 0.001 * draws["start"], 0.0, 1.0)
    else:
        points = torch.clamp(images + draws["start"], 0.0, 1.0)
    with torch.no_grad():
        clean_logits = net(images)
    control, left, counts = [setting.tau] * len(images), [], torch.zeros(len(images), dtype=torch.long)
    clean, target, place = images, labels, torch.arange(len(images))
    for number in range(setting.steps):
        points = points.detach().requires_grad_()
        output = net(points)
        prediction = output.argmax(dim=1)
        output_index, iter_index = [], []
        for i in range(len(prediction)):
            if prediction[i] == target[i]:
                iter_index.append(i)
            elif control[i] == 0:
                output_index.append(i)
            else:
                control[i] -= 1
                iter_index.append(i)
        if output_index:
            left.append((points.detach()[output_index], clean[output_index], target[output_index], place[output_index]))
        if not iter_index:
            break
        if loss == "kl":
            probabilities = functional.softmax(clean_logits, dim=1)
            value = functional.kl_div(functional.log_softmax(output, dim=1), probabilities, reduction="sum")
        else:
            value = functional.cross_entropy(output, target)
        (gradient,) = torch.autograd.grad(value, points)
        control = [control[i] for i in iter_index]
        points, clean, target = points.detach()[iter_index], clean[iter_index], target[iter_index]
        clean_logits, place = clean_logits[iter_index], place[iter_index]
        points = points + setting.size * gradient[iter_index].sign()
        if setting.omega:
            points = points + setting.omega * draws["jitter"][number][place]
        points = torch.min(torch.max(points, clean - setting.epsilon), clean + setting.epsilon)
        points = torch.clamp(points, 0.0, 1.0)
        counts[place] += 1
    else:
        left.append((points, clean, target, place))
    adversarial, clean, target, order = (torch.cat(parts) for parts in zip(*left, strict=True))
    return adversarial, clean, target, counts, order


def fat(net, optimizer, images, labels, draws, setting):
    """(loss, adversarial images, steps of each image, order) of one update by FAT."""
    adversarial, _, target, counts, order = early_stop(net, images, labels, draws, setting, "ce")
    net.train()
    loss = functional.cross_entropy(net(adversarial), target, label_smoothing=setting.smoothing)
    update(optimizer, loss)
    return loss.item(), adversarial, counts, order


def trades_fat(net, optimizer, images, labels, draws, setting):
    """(loss, adversarial images, steps of each image, order) of one update by TRADES-FAT."""
    adversarial, natural, target, counts, order = early_stop(net, images, labels, draws, setting, "kl")
    net.train()
    natural_logits = net(natural)
    adversarial_logits = net(adversarial)
    loss = trades_loss(natural_logits, adversarial_logits, natural_logits, target, setting)
    update(optimizer, loss)
    return loss.item(), adversarial, counts, order


def fast(net, optimizer, images, labels, draws, setting):
    """(loss, adversarial images, steps of each image, order) of one update by FastAT."""
    net.train()
    delta = draws["start"].clone().requires_grad_()
    functional.cross_entropy(net(in_range(images + delta)), labels).backward()
    delta = delta.detach() + setting.size * torch.sign(delta.grad)
    delta.clamp_(-setting.epsilon, setting.epsilon)
    adversarial = in_range(images + delta)
    loss = functional.cross_entropy(net(adversarial), labels, label_smoothing=setting.smoothing)
    update(optimizer, loss)
    return loss.item(), adversarial, torch.ones(len(images), dtype=torch.long), torch.arange(len(images))


def augmented(net, optimizer, images, labels, draws, setting):
    """(loss, adversarial images, steps of each image, order) of one update by Equation 2 and its relatives.

    draws: "views", the streams' images in their order; "coin", whether an image takes the first of "either", not the
    second, or None where no stream is chosen so; "start", the attack's, or None where no stream is adversarial.
    """
    streams = list(draws["views"])
    if draws["coin"] is not None:
        deep, textures = draws["either"]
        chosen = [deep[i] if coin else textures[i] for i, coin in enumerate(draws["coin"])]
        streams.append(torch.stack(chosen))
    net.train()
    losses = [functional.cross_entropy(net(s), labels, label_smoothing=setting.smoothing) for s in streams]
    points, steps = images, 0
    if draws["start"] is not None:
        net.eval()
        points, steps = torch.clamp(images + draws["start"], 0.0, 1.0), setting.steps
        for _ in range(steps):
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(functional.cross_entropy(net(points), labels, reduction="sum"), points)
            points = points.detach() + setting.size * torch.sign(gradient)
            points = torch.clamp(images + torch.clamp(points - images, -setting.epsilon, setting.epsilon), 0.0, 1.0)
        net.train()
        losses.append(functional.cross_entropy(net(points), labels, label_smoothing=setting.smoothing))
    loss = torch.stack(losses).mean()
    update(optimizer, loss)
    return loss.item(), points, torch.full((len(images),), steps), torch.arange(len(images))


def free(net, optimizer, batches, setting):
    """(mean loss of each batch, the noise after each) of training by FreeAT on batches of (images, labels)."""
    net.train()
    global_noise, losses, noises = torch.zeros_like(batches[0][0]), [], []
    for images, labels in batches:
        total = 0.0
        for _ in range(setting.replays):
            noise = global_noise.clone().requires_grad_()
            loss = functional.cross_entropy(net(in_range(images + noise)), labels, label_smoothing=setting.smoothing)
            optimizer.zero_grad()
            loss.backward()
            global_noise += setting.size * torch.sign(noise.grad)
            global_noise.clamp_(-setting.epsilon, setting.epsilon)
            optimizer.step()
            total += loss.item() / setting.replays
        losses.append(total)
        noises.append(global_noise.clone())
    return losses, noises


def in_range(images):
    """Images cut to [0, 1] as by `clamp_` of the PyTorch that the methods were published with: a value on the border
    passes its gradient on. That is so from 0.4.1 to 2.13; 2.14 stops it there, which moves no saturated pixel."""
    return images.masked_fill(images < 0, 0.0).masked_fill(images > 1, 1.0)


def update(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
