# ruff: noqa: RUF001 - the sign of a product
"""The table reader: its grammar over the planets, any other CSV, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from molecule_runtime.a2a.examples.csv_table import Table, default_table, parse_table, read_file
from molecule_runtime.a2a.examples.questions import answer
from molecule_runtime.a2a.examples.table import Adapter
from molecule_runtime.core.adapter import AdapterConfig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def planets() -> Table:
    return default_table()


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which planet has the largest mass?", "Jupiter has the largest mass: 1898 ×10^24 kg."),
        ("heaviest planet?", "Jupiter has the largest mass: 1898 ×10^24 kg."),
        ("Which planet has the lowest density?", "Saturn has the smallest density: 687 kg/m³."),
        ("which planet is the hottest", "Venus has the largest mean temperature: 464 °C."),
        ("coldest planet?", "Neptune has the smallest mean temperature: -200 °C."),
        ("which planet is closest to the sun", "Mercury has the smallest distance from sun: 57.9 million km."),
        ("farthest planet from the sun", "Neptune has the largest distance from sun: 4515.0 million km."),
        ("which planet has the longest year", "Neptune has the largest orbital period: 59800 days."),
        ("smallest planet", "Mercury has the smallest diameter: 4879 km."),
        ("second largest planet", "Saturn has the second largest diameter: 120536 km."),
        ("What is the maximum gravity?", "Jupiter has the largest gravity: 23.1 m/s²."),
        ("lowest gravity", "Mercury and Mars have the smallest gravity: 3.7 m/s²."),
        ("gravity of Mars", "The gravity of Mars is 3.7 m/s²."),
        ("What is the mean temperature of Venus?", "The mean temperature of Venus is 464 °C."),
        ("How far is Mars from the Sun?", "The distance from sun of Mars is 228.0 million km."),
        ("how long is a year on Mars?", "The orbital period of Mars is 687.0 days."),
        ("how heavy is Earth", "The mass of Earth is 5.97 ×10^24 kg."),
        ("size of Jupiter", "The diameter of Jupiter is 142984 km."),
        ("escape velocity of Earth", "The escape velocity of Earth is 11.2 km/s."),
        ("gravity of Earth and Mars", "The gravity of Earth is 9.8 m/s².\nThe gravity of Mars is 3.7 m/s²."),
        ("average gravity", "The average gravity of the 8 planets is 9.7375 m/s²."),
        ("What is the average temperature?", "The average temperature of the 8 planets is -8 °C."),
        ("median density", "The median density of the 8 planets is 2786 kg/m³."),
        ("total mass of Earth and Mars", "The total mass of Earth and Mars is 6.612 ×10^24 kg."),
        (
            "average mass of planets with gravity above 9",
            "The average mass of the 3 planets with gravity above 9 m/s² is 668.657 ×10^24 kg.",
        ),
        ("how many planets are there?", "There are 8 planets."),
        ("how many rows", "There are 8 planets."),
        (
            "how many planets have a gravity of at least 9.8?",
            "3 planets with gravity at least 9.8 m/s²: Earth, Jupiter, Neptune.",
        ),
        (
            "planets with gravity above 9",
            "3 planets with gravity above 9 m/s²: Earth (9.8 m/s²), Jupiter (23.1 m/s²), Neptune (11.0 m/s²).",
        ),
        ("gravity > 20", "1 planet with gravity above 20 m/s²: Jupiter (23.1 m/s²)."),
        ("planets with gravity above 100", "No planet with gravity above 100 m/s²."),
        (
            "gravity above 9 and mass below 100",
            "1 planet with gravity above 9 m/s² and mass below 100 ×10^24 kg: Earth (9.8 m/s²).",
        ),
        (
            "planets with mass between 1 and 10",
            "2 planets with mass at least 1 ×10^24 kg and mass at most 10 ×10^24 kg: Venus (4.87 ×10^24 kg), Earth (5.97 ×10^24 kg).",
        ),
        ("planets hotter than Earth", "2 planets with mean temperature above 15 °C: Mercury (167 °C), Venus (464 °C)."),
        (
            "planets farther than 2000 million km from the sun",
            "2 planets with distance from sun above 2000 million km: Uranus (2867.0 million km), Neptune (4515.0 million km).",
        ),
        ("Is Earth heavier than Mars?", "Earth: yes, its mass is 5.97 ×10^24 kg (above 0.642 ×10^24 kg)."),
        ("Is Mars heavier than Earth?", "Mars: no, its mass is 0.642 ×10^24 kg (not above 5.97 ×10^24 kg)."),
        ("which is heavier, Earth or Mars?", "Earth has the largest mass: 5.97 ×10^24 kg."),
        ("the biggest planet with gravity below 9", "Uranus has the largest diameter with gravity below 9 m/s²: 51118 km."),
        (
            "top 2 planets by mass",
            "The 2 planets with the largest mass:\n1. Jupiter: 1898 ×10^24 kg\n2. Saturn: 568 ×10^24 kg",
        ),
        (
            "two hottest planets",
            "The 2 planets with the largest mean temperature:\n1. Venus: 464 °C\n2. Mercury: 167 °C",
        ),
        ("Which planet has the highest mean temperature?", "Venus has the largest mean temperature: 464 °C."),
        ("lowest average temperature", "Neptune has the smallest mean temperature: -200 °C."),
        (
            "two planets with the highest mean temperature",
            "The 2 planets with the largest mean temperature:\n1. Venus: 464 °C\n2. Mercury: 167 °C",
        ),
        ("average mean temperature", "The average temperature of the 8 planets is -8 °C."),
        ("median mean temperature", "The median mean temperature of the 8 planets is -87.5 °C."),
        (
            "mean temperature of planets with gravity above 9",
            "The mean temperature of each planet with gravity above 9 m/s²: Earth 15 °C, Jupiter -110 °C, Neptune -200 °C.",
        ),
    ],
)  # fmt: skip
def test_a_question_about_the_planets_is_answered(planets: Table, question: str, expected: str) -> None:
    assert answer(planets, question) == expected


@pytest.mark.parametrize(
    "question",
    ["what is the capital of France?", "who are you", "", "which planets are not hot", "planets without gravity above 9",
     "which planet has the longest day?", "planets with 9 gravity", "planets above 9", "bluer than Earth",
     "average mass of the 3 largest planets"],
)  # fmt: skip
def test_a_question_that_does_not_fit_is_refused_with_what_can_be_asked(planets: Table, question: str) -> None:
    said = answer(planets, question)
    assert "columns: planet, mass (×10^24 kg), diameter (km)" in said
    assert "Which planet has the largest mass?" in said


@pytest.mark.parametrize("question", ["what do you know?", "what columns are there", "list all planets"])
def test_the_table_says_what_it_holds(planets: Table, question: str) -> None:
    said = answer(planets, question)
    assert "8 rows and 9 columns" in said
    assert "Mercury, Venus, Earth, Mars" in said


def test_every_example_on_the_card_is_answered(planets: Table) -> None:
    for question in planets.examples():
        assert "You can ask" not in answer(planets, question), question


def test_any_csv_works_with_types_units_and_categories_worked_out() -> None:
    table = parse_table(
        "fruit.csv",
        "Name;Kind;Price (EUR);weight_kg\nApple;pome;1,200.50;0.2\nPear;pome;2;\nLime;citrus;0.5;0.1\nLemon;citrus;0.7;0.15\n",
    )
    assert [column.described for column in table.columns] == ["name", "kind", "price (EUR)", "weight (kg)"]
    assert answer(table, "how many are citrus?") == "2 names with kind citrus: Lime, Lemon."
    assert answer(table, "the most expensive") == "Apple has the largest price: 1,200.50 EUR."
    assert answer(table, "cheapest citrus") == "Lime has the smallest price with kind citrus: 0.5 EUR."
    assert answer(table, "weight of Pear") == "The weight of Pear is not known."
    assert answer(table, "average weight") == "The average weight of the 3 names is 0.15 kg."


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who has the highest total points?", "Bob has the largest total points: 30."),
        ("total points of Ann", "The total points of Ann is 10."),
        ("sum of total points", "The total points of the 2 players is 40."),
        ("What is the total points?", "The total points of each player: Ann 10, Bob 30."),
        ("max speed of Bob", "The max speed of Bob is 10 km/h."),
        ("lowest max speed", "Bob has the smallest max speed: 10 km/h."),
        ("average max speed", "The average max speed of the 2 players is 15 km/h."),
        ("highest count", "Bob has the largest count: 8."),
        ("count of players", "There are 2 players."),
    ],
)
def test_a_word_of_a_columns_name_asks_for_no_calculation(question: str, expected: str) -> None:
    table = parse_table("p.csv", "player,total points,max speed_km_h,count\nAnn,10,20,1\nBob,30,10,8\n")
    assert answer(table, question) == expected


def test_a_file_that_is_no_table_is_refused_with_the_reason(tmp_path: Path) -> None:
    for name, content, reason in (
        ("empty.csv", b"", "header line"),
        ("header.csv", b"a,b\n", "header line"),
        ("latin.csv", b"a,b\n\xff\xfe,1\n", "not UTF-8"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match=reason):
            read_file(path)
    with pytest.raises(RuntimeError, match="cannot be read"):
        read_file(tmp_path / "missing.csv")


@pytest.mark.anyio
async def test_the_csv_of_the_config_is_found_beside_it_and_shown_on_the_card(tmp_path: Path) -> None:
    (tmp_path / "cities.csv").write_text("city,population\nUlm,126000\nBonn,336000\n")
    adapter = Adapter()
    assert adapter.skills() == []
    await adapter.setup(AdapterConfig(model="", config_path=str(tmp_path), runtime_config={"csv": "cities.csv"}))
    skill = adapter.skills()[0]
    assert "cities.csv (2 rows; city, population)" in skill["description"]
    assert {"city", "population", "ulm", "bonn"} <= set(skill["tags"])
    for wrong in ({"csv": "missing.csv"}, {"csv": 3}):
        with pytest.raises(RuntimeError, match=r"runtime_config\.csv"):
            await Adapter().setup(AdapterConfig(model="", config_path=str(tmp_path), runtime_config=wrong))


@pytest.mark.anyio
async def test_the_source_of_the_planets_is_on_the_card() -> None:
    adapter = Adapter()
    await adapter.setup(AdapterConfig(model=""))
    assert "https://nssdc.gsfc.nasa.gov/planetary/factsheet/" in adapter.skills()[0]["description"]
