"""The page about an exported model."""

from pathlib import Path

from tiny_models import tiny_config
from tiny_shards import random_utterances, write_shards

from speech.export import model_card
from speech.export.description import Description, Naming
from speech.export.model_card import Form
from speech.export.rates import Rates


def test_table_has_a_row_for_each_form(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([300, 300], 4), longest=(300, 12))
    rates = {
        "checkpoint": Rates(0.25, 0.1, 0.3, 0.125, 2, 0, 0.01),
        "tflite_int8": Rates(0.5, 0.2, 0.6, 0.25, 2, 1, 0.0125),
    }
    forms = [Form("checkpoint", "", 2_000_000), Form("tflite_int8", "model-int8.tflite", 500_000)]
    page = model_card.card(Description(tiny_config(), 1500), forms, shards, shards, rates)
    assert "2 utterances, 0.1 minutes" in page
    assert "| checkpoint | 2.00 MB | 25.00% | 10.00% | 30.00% | 12.50% | 0 of 2 | 0.010 |" in page
    assert "| tflite_int8 | 0.50 MB | 50.00% | 20.00% | 60.00% | 25.00% | 1 of 2 | 0.013 |" in page
    assert 'model = load("model-int8.tflite")' in page
    assert "python transcribe.py --model=model-int8.tflite " in page


def test_unknown_properties_are_left_out() -> None:
    description = Description(
        tiny_config(), 1500, Naming(name="Mine", license="CC0|1.0,\nor later")
    )
    page = model_card.card(description, [Form("saved_model", "saved_model", 1)], None, None, {})
    assert page.startswith("# Mine\n")
    assert "| License | CC0\\|1.0, or later |" in page and "Language" not in page
    assert "| Trained for | 1,500 steps |" in page
    assert "Unknown: export.py --train_data=" in page
    assert "Not measured: export.py --test_data=" in page
