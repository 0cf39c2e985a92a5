"""The usual template: images through PIL and torchvision's transforms, a DataLoader, Lightning,
torchmetrics.
"""

from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.gate import Gate
from benchmarks.lightning_module import fit
from benchmarks.task import BATCH_SIZE, VALIDATION, Task, arrays


class ImageDataset(Dataset[tuple[object, int]]):
    """What torchvision.datasets.MNIST does for an item, for images that may be random."""

    def __init__(self, task: Task) -> None:
        self.images, self.labels = arrays(task)
        self.transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: int) -> tuple[object, int]:
        return self.transform(Image.fromarray(self.images[item])), int(self.labels[item])


def train(task: Task, gate: Gate) -> None:
    """`num_workers=0`, the default of DataLoader and of the templates."""
    dataset = ImageDataset(task)
    training = Subset(dataset, range(VALIDATION, len(dataset)))
    validation = Subset(dataset, range(VALIDATION))
    fit(
        task,
        gate,
        DataLoader(training, batch_size=BATCH_SIZE, shuffle=True),
        DataLoader(validation, batch_size=BATCH_SIZE),
    )
