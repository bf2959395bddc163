"""A recipe of ``finetune --task ocr``; see :mod:`embedsearch.training.recipe`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from embedsearch.training.recipe import About, Optimisation


@dataclass(frozen=True)
class Model:
    """What is trained."""

    start: str = ""
    """A folder that was trained before; none to begin from nothing."""
    width: int = 32
    """Channels of the first stage; the last has eight times as many."""
    height: int = 32
    """Of a word as the network sees it, pixels; a multiple of 16."""
    signs: str = " 0123456789abcdefghijklmnopqrstuvwxyz!#$%&'()*+,-./:;?@"
    """What can be read. Without capitals, they are read as small letters: search does not mind."""
    dropout: float = 0.1


@dataclass(frozen=True)
class Data:
    """Which words are drawn."""

    paths: tuple[str, ...] = ()
    """Text files with a word or phrase a line; the vocabulary of tags where none is named. Or JSON
    lines as ``evaluate ocr`` takes, whose pictures with one word each are trained on too."""
    random: float = 0.3
    """Share of words that are numbers, prices, dates and random signs."""
    joined: float = 0.15
    """Share that are two words, so that spaces are learned."""
    words: int = 20_000
    """So many are drawn in an epoch; no two epochs draw the same pictures."""
    held_out: float = 0.02
    """Share of the list of words that is not trained on; what is measured on is drawn of it."""
    checked: int = 300
    """So many words are measured on after each epoch."""
    split_seed: int = 0


@dataclass(frozen=True)
class Drawing:
    """What a word looks like. Shares are of the words that it happens to."""

    fonts: tuple[str, ...] = ()
    """Fonts, or folders of fonts, beside those that come with matplotlib."""
    least: int = 9
    """Height of letters before they are enlarged, pixels: what is small is blurred."""
    largest: int = 48
    contrast: float = 40.0
    """Least difference between word and ground, of 255; as far as the ground has room for it."""
    elastic: float = 0.3
    """Elastic deformation (Simard et al., "Best Practices for Convolutional Neural Networks", 2003,
    section 2)."""
    bend: float = 2.0
    """How far it moves a pixel at most."""
    turn: float = 5.0
    """Degrees."""
    slant: float = 0.3
    """How far the top is moved against the foot, of the height, and side against side."""
    blur: float = 0.4
    noise: float = 0.4
    """Grain of up to 25 of 255."""
    binary: float = 0.1
    """Black and white, by Otsu's threshold, as scanners make it."""
    rough: float = 0.4
    """Ground that is shaded; three quarters of that, ground that is rough."""
    jpeg: float = 0.3
    easy: float = 1.0
    """Epochs in which words come from being plain to being as above: CTC begins with a long time of
    reading nothing, which plain words cut short (Bengio et al., "Curriculum Learning", 2009)."""

    def eased(self, done: float) -> Drawing:
        """As it is after ``done`` epochs."""
        if done >= self.easy:
            return self
        share = done / self.easy
        return replace(
            self,
            least=round(self.least + (1 - share) * (self.largest - self.least) / 2),
            contrast=max(self.contrast, 150 * (1 - share)),
            **{
                name: share * getattr(self, name)
                for name in ("elastic", "turn", "slant", "blur", "noise", "binary", "rough", "jpeg")
            },
        )


@dataclass(frozen=True)
class Recipe:
    """A recipe of ``finetune --task ocr``."""

    about: About = field(default_factory=About)
    model: Model = Model()
    data: Data = Data()
    drawing: Drawing = Drawing()
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            epochs=10, batch=64, rate=1e-3, decay=1e-2, warm_up=0.2, clip=5.0
        )
    )
