"""Settings: typed reading that is noted, configs from settings, and what differs from the defaults."""

import pytest

from ssltyped.config import ConfigError
from ssltyped.heads.plumbing import SiameseConcatHead
from ssltyped.interop.vissl.settings import Settings, changed, choice, covered, lower_case, make
from ssltyped.trunks.resnet import ResNetSK


def settings() -> Settings:
    return Settings({"A": {"depth": "5", "on": True, "none": None}, "number": 3, "name": "x"}, "config", set())


def test_values_come_typed_and_what_was_read_is_noted_in_all_sections() -> None:
    top = settings()
    section = top.at("A")
    assert section.get("depth", int, 1) == 5
    assert section.get("missing", float, 2.5) == 2.5
    assert section.get("none", str, "default") == "default"
    assert section.require("on", bool) is True
    assert top.at("no", "such").get("key", int, 7) == 7
    assert top.read == {"config.A.depth", "config.A.missing", "config.A.none", "config.A.on", "config.no.such.key"}
    assert "on" in section
    assert "none" not in section


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda s: s.get("name", int, 0), "config.name: got 'x'"),
        (lambda s: s.get("name", list[int], []), "config.name: got 'x'"),
        (lambda s: s.at("number"), "config.number: got 3: want a section"),
        (lambda s: s.require("nam", str), "config.nam: is missing; did you mean 'name'?"),
        (lambda s: choice(s, "name", {"y": 1, "xx": 2}, "y"), "no such option; did you mean 'xx'?"),
    ],
)
def test_errors_name_the_key(wrong: object, message: str) -> None:
    assert callable(wrong)
    with pytest.raises(ConfigError) as caught:
        wrong(settings())
    assert message in str(caught.value)


def test_a_config_is_checked_and_its_errors_name_the_section() -> None:
    assert make(SiameseConcatHead, {"num_towers": 3}, "config.X").num_towers == 3
    with pytest.raises(ConfigError, match=r"^config\.X\.num_towers: got 0"):
        make(SiameseConcatHead, {"num_towers": 0}, "config.X")


def test_fields_are_found_by_their_names_in_capitals() -> None:
    section = Settings({"DEPTH": 50, "ratio": 0.1, "STRANGE": 1, "WIDTH_MULTIPLIER": None}, "S", set())
    assert lower_case(ResNetSK, section, {"ratio": "sk_ratio"}) == {"depth": 50, "sk_ratio": 0.1}
    assert section.read == {"S.DEPTH", "S.ratio"}


def test_only_what_differs_from_the_defaults_is_listed() -> None:
    defaults = {"a": 1, "b": {"c": [1], "d": 2}, "e": {}}
    assert list(changed({"a": 1, "b": {"c": [1, 2], "d": 2}, "e": {"f": 0}, "g": {}}, defaults)) == [  # type: ignore[arg-type]  # narrower values
        ("b.c", [1, 2]),
        ("e.f", 0),
    ]


def test_a_path_is_covered_by_itself_and_by_what_is_above_it() -> None:
    assert covered("config.A.b", {"config.A"})
    assert covered("config.A", ["config.A"])
    assert not covered("config.AB", {"config.A"})
    assert not covered("config", {"config.A"})
