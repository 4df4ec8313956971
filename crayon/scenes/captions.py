"""What a scene is called: one canonical caption for evaluation, random variants of it for training."""

import random

from crayon.scenes.grammar import Background, PairScene, Position, Relation, Scene, SingleScene, Size, Subject

# The first of each is the canonical one.
_PLACES: dict[Position, list[str]] = {
    Position.CENTRE: ["", "", "", "in the middle", "in the center"],
    Position.LEFT: ["on the left"] * 4 + ["on the left side", "to the left"],
    Position.RIGHT: ["on the right"] * 4 + ["on the right side", "to the right"],
    Position.TOP: ["at the top"] * 4 + ["in the upper part", "above"],
    Position.BOTTOM: ["at the bottom"] * 4 + ["in the lower part", "below"],
}
_RELATIONS: dict[Relation, list[str]] = {
    Relation.LEFT_OF: ["to the left of"] * 4 + ["left of", "on the left of"],
    Relation.RIGHT_OF: ["to the right of"] * 4 + ["right of", "on the right of"],
    Relation.ABOVE: ["above"] * 4 + ["over"],
    Relation.BELOW: ["below"] * 4 + ["under", "beneath"],
}
_SIZES: dict[Size, list[str]] = {
    Size.SMALL: ["small"] * 5 + ["little", "tiny"],
    Size.LARGE: ["large"] * 5 + ["big", "huge"],
}
_PREFIXES = [""] * 8 + ["a picture of", "a drawing of", "an image of", "a crayon drawing of"]


def canonical_caption(scene: Scene) -> str:
    """The caption that names everything, e.g. 'a large red heart on the left at night'."""
    backdrop = _backdrop(scene.background)
    if isinstance(scene, SingleScene):
        named = _with_article(f"{scene.size} {scene.subject.colour} {scene.subject.shape}")
        return _join(named, _PLACES[scene.position][0], backdrop)
    return _join(_named(scene.first), _RELATIONS[scene.relation][0], _named(scene.second), backdrop)


def caption_variant(scene: Scene, rng: random.Random) -> str:
    """A random wording of the scene: synonyms, another order, attributes left out."""
    return _single_variant(scene, rng) if isinstance(scene, SingleScene) else _pair_variant(scene, rng)


def _single_variant(scene: SingleScene, rng: random.Random) -> str:
    size = "" if rng.random() < 0.2 else rng.choice(_SIZES[scene.size])
    colour = "" if rng.random() < 0.04 else scene.subject.colour.value
    named = _with_article(_join(size, colour, scene.subject.shape), rng)
    place = "" if rng.random() < 0.08 else rng.choice(_PLACES[scene.position])
    return _around_backdrop(_join(rng.choice(_PREFIXES), named), place, scene.background, rng)


def _pair_variant(scene: PairScene, rng: random.Random) -> str:
    # The same picture told from its other object is as true: half the captions tell it so.
    described = scene.inverse if rng.random() < 0.5 else scene
    first, second = (_named(subject, rng) for subject in described.subjects)
    form = rng.random()
    if form < 0.72:
        body = _join(first, rng.choice(_RELATIONS[described.relation]), second)
    elif form < 0.95:
        here, there = (_PLACES[place][0] for place in described.relation.places)
        body = _join(first, here, "and", second, there)
    else:
        body = _join(first, "and", second)
    return _around_backdrop(_join(rng.choice(_PREFIXES), body), "", scene.background, rng)


def _around_backdrop(body: str, place: str, background: Background, rng: random.Random) -> str:
    backdrop = "" if rng.random() < 0.06 else _backdrop(background)
    order = rng.random()
    if backdrop and order < 0.08:
        return f"{backdrop}, {_join(body, place)}"
    if order < 0.28:
        return _join(body, backdrop, place)
    if backdrop and order < 0.45:
        return f"{_join(body, place)}, {backdrop}"
    return _join(body, place, backdrop)


def _backdrop(background: Background) -> str:
    return "at night" if background is Background.NIGHT else f"on {_with_article(background.value)} background"


def _named(subject: Subject, rng: random.Random | None = None) -> str:
    colour = "" if rng is not None and rng.random() < 0.03 else subject.colour.value
    return _with_article(_join(colour, subject.shape), rng)


def _with_article(noun: str, rng: random.Random | None = None) -> str:
    if rng is not None and rng.random() < 0.1:
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
