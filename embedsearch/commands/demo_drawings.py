"""Pictures that ``demo`` draws itself: shapes, signs, documents, a sunset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

WHITE, BLACK = (255, 255, 255), (20, 20, 20)
RED, GREEN, BLUE, YELLOW = (214, 40, 40), (46, 140, 70), (36, 82, 196), (247, 201, 72)


def drawings() -> Iterator[tuple[str, Image]]:
    """Relative file names with upright RGB pictures, the same at every call."""
    yield "shapes/red square.png", _shape("square", RED)
    yield "shapes/blue circle.png", _shape("circle", BLUE)
    yield "shapes/green triangle.png", _shape("triangle", GREEN)
    yield "shapes/yellow star.png", _shape("star", YELLOW)
    yield "signs/exit 24.jpg", _exit_sign()
    yield "signs/stop.png", _stop_sign()
    yield "signs/traffic light.png", _traffic_light()
    yield "documents/invoice.png", _invoice()
    yield "documents/bar chart.png", _bar_chart()
    yield "documents/town map.png", _town_map()
    yield "views/sunset.jpg", _sunset()
    yield "views/house.png", _house()
    yield "patterns/chessboard.png", _chessboard()


def _canvas(width: int, height: int, colour: tuple[int, int, int]) -> tuple[Image, ImageDraw]:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def _text(
    draw: ImageDraw,
    at: tuple[float, float],
    text: str,
    size: float,
    colour: tuple[int, int, int] = BLACK,
    anchor: str = "la",
) -> None:
    from PIL import ImageFont

    draw.text(at, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)


def _shape(kind: str, colour: tuple[int, int, int]) -> Image:
    image, draw = _canvas(480, 480, WHITE)
    if kind == "square":
        draw.rectangle((110, 110, 370, 370), fill=colour)
    elif kind == "circle":
        draw.circle((240, 240), 140, fill=colour)
    elif kind == "triangle":
        draw.regular_polygon((240, 260, 160), 3, fill=colour)
    else:
        points = [_on_circle(240, 250, 170 if i % 2 == 0 else 68, i / 10) for i in range(10)]
        draw.polygon(points, fill=colour)
    return image


def _on_circle(x: float, y: float, radius: float, turn: float) -> tuple[float, float]:
    from math import cos, sin, tau

    return x + radius * sin(turn * tau), y - radius * cos(turn * tau)


def _exit_sign() -> Image:
    image, draw = _canvas(720, 480, WHITE)
    for y in range(480):
        draw.line((0, y, 720, y), fill=(120 + y // 5, 170 + y // 8, 225))
    for x in (190, 510):
        draw.rectangle((x, 200, x + 22, 480), fill=(120, 124, 128))
    draw.rounded_rectangle((90, 70, 630, 310), 26, fill=(0, 100, 60), outline=WHITE, width=8)
    _text(draw, (330, 190), "EXIT 24", 96, WHITE, "mm")
    draw.polygon(
        [(560, 130), (600, 190), (574, 190), (574, 250), (546, 250), (546, 190), (520, 190)], WHITE
    )
    return image


def _stop_sign() -> Image:
    image, draw = _canvas(480, 480, (176, 205, 230))
    draw.rectangle((228, 300, 252, 480), fill=(120, 124, 128))
    draw.regular_polygon((240, 200, 170), 8, rotation=22, fill=WHITE)
    draw.regular_polygon((240, 200, 158), 8, rotation=22, fill=RED)
    _text(draw, (240, 200), "STOP", 88, WHITE, "mm")
    return image


def _traffic_light() -> Image:
    image, draw = _canvas(360, 540, (168, 200, 228))
    draw.rectangle((168, 400, 192, 540), fill=(70, 70, 74))
    draw.rounded_rectangle((105, 40, 255, 420), 30, fill=(40, 40, 44))
    for y, colour in ((110, RED), (230, (92, 78, 30)), (350, (24, 70, 36))):
        draw.circle((180, y), 50, fill=colour)
    return image


def _invoice() -> Image:
    image, draw = _canvas(620, 800, (252, 252, 250))
    _text(draw, (50, 50), "INVOICE 2024", 48)
    _text(draw, (50, 120), "Number 0042        12 March 2024", 22, (90, 90, 90))
    draw.line((50, 170, 570, 170), fill=(150, 150, 150), width=2)
    rows = [("Picture frames, oak", "120.00"), ("Passe-partout", "36.50"), ("Delivery", "9.90")]
    for row, (what, price) in enumerate(rows):
        _text(draw, (50, 200 + 50 * row), what, 26)
        _text(draw, (570, 200 + 50 * row), price, 26, anchor="ra")
    draw.line((50, 370, 570, 370), fill=(150, 150, 150), width=2)
    _text(draw, (50, 390), "Total", 32)
    _text(draw, (570, 390), "166.40", 32, anchor="ra")
    _text(draw, (50, 720), "Thank you. Please pay within 30 days.", 22, (90, 90, 90))
    return image


def _bar_chart() -> Image:
    image, draw = _canvas(640, 440, WHITE)
    _text(draw, (320, 34), "Visitors by month", 30, anchor="mm")
    draw.line((70, 70, 70, 380, 610, 380), fill=BLACK, width=3)
    for bar, (month, height) in enumerate(
        zip(("Jan", "Feb", "Mar", "Apr", "May", "Jun"), (90, 130, 110, 190, 240, 280), strict=True)
    ):
        x = 95 + 86 * bar
        draw.rectangle((x, 378 - height, x + 54, 378), fill=BLUE)
        _text(draw, (x + 27, 402), month, 22, anchor="mm")
    return image


def _town_map() -> Image:
    image, draw = _canvas(640, 480, (240, 237, 228))
    draw.rounded_rectangle((40, 40, 250, 190), 20, fill=(190, 222, 170))
    river = [(0, 330), (160, 300), (330, 360), (480, 320), (640, 350)]
    draw.line(river, fill=(150, 196, 230), width=46, joint="curve")
    for road in ([(0, 230), (640, 210)], [(300, 0), (320, 480)], [(480, 0), (540, 480)]):
        draw.line(road, fill=(170, 160, 140), width=22)
        draw.line(road, fill=WHITE, width=16)
    for x, y in ((360, 60), (420, 120), (360, 250), (580, 60), (200, 400), (400, 420), (60, 250)):
        draw.rectangle((x, y, x + 34, y + 26), fill=(214, 200, 180), outline=(180, 166, 146))
    _text(draw, (145, 115), "City Park", 26, (60, 110, 50), "mm")
    _text(draw, (420, 335), "River", 24, (50, 100, 150), "mm")
    _text(draw, (150, 226), "Main Street", 18, (90, 84, 70), "mm")
    return image


def _sunset() -> Image:
    image, draw = _canvas(800, 520, BLACK)
    for y in range(340):
        part = y / 340
        draw.line((0, y, 800, y), fill=_mix((54, 32, 92), (255, 150, 60), part))
    draw.circle((400, 318), 70, fill=(255, 226, 140))
    for y in range(340, 520):
        part = (y - 340) / 180
        draw.line((0, y, 800, y), fill=_mix((190, 90, 70), (30, 24, 60), part))
        half = 66 * (1 - part) + 6 * (y % 4)
        if y % 3:
            draw.line(
                (400 - half, y, 400 + half, y), fill=_mix((255, 214, 130), (120, 60, 70), part)
            )
    return image


def _mix(
    first: tuple[int, int, int], last: tuple[int, int, int], part: float
) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, last, strict=True))
    return red, green, blue


def _house() -> Image:
    image, draw = _canvas(640, 480, (150, 205, 245))
    draw.rectangle((0, 350, 640, 480), fill=(110, 180, 90))
    draw.circle((560, 80), 44, fill=YELLOW)
    draw.rectangle((180, 210, 420, 390), fill=(240, 225, 195))
    draw.polygon([(150, 215), (300, 100), (450, 215)], fill=(180, 60, 45))
    draw.rectangle((275, 290, 325, 390), fill=(110, 70, 40))
    for x in (205, 355):
        draw.rectangle((x, 250, x + 45, 295), fill=(170, 215, 240), outline=WHITE, width=4)
    draw.rectangle((508, 280, 530, 390), fill=(110, 75, 45))
    draw.circle((519, 235), 70, fill=(60, 140, 60))
    return image


def _chessboard() -> Image:
    image, draw = _canvas(512, 512, (238, 215, 180))
    for row in range(8):
        for column in range(8):
            x, y = 64 * column, 64 * row
            if (row + column) % 2:
                draw.rectangle((x, y, x + 63, y + 63), fill=(150, 95, 60))
            if row in (0, 1, 6, 7):
                piece = BLACK if row < 2 else (250, 248, 240)
                draw.circle((x + 32, y + 24), 11, fill=piece, outline=(90, 80, 70))
                draw.polygon([(x + 14, y + 56), (x + 32, y + 26), (x + 50, y + 56)], fill=piece)
    return image
