"""The page about an exported model: training data, sizes, error rates, and use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speech.export.description import Description
from speech.export.rates import Rates
from speech.networks import registry
from speech.shards.shard_set import ShardSet

CARD_FILE = "model_card.md"


@dataclass(frozen=True)
class Form:
    """One form of a model."""

    name: str
    path: str  # relative to the card; empty for the checkpoint, which isn't in the same folder
    bytes: int


def card(
    description: Description,
    forms: Sequence[Form],
    training: ShardSet | None,
    test: ShardSet | None,
    rates: Mapping[str, Rates],
) -> str:
    """Formats the page in Markdown.

    Args:
        training: shards that the model was trained on, if known.
        test: shards that the rates were measured on.
        rates: by the forms' names; empty without a test set.
    """
    naming = description.naming
    title = " ".join(each for each in (naming.name or "Speech model", naming.version) if each)
    lines = [f"# {title}", ""]
    if naming.description:
        lines += [naming.description, ""]
    lines += _settings(description)
    lines += ["", "## Training data", "", *_training(description, training)]
    lines += ["", "## Sizes and word error rates", "", *_rates(forms, test, rates)]
    lines += ["", "## Use", "", *_use(description, forms)]
    return "\n".join(lines) + "\n"


def _settings(description: Description) -> list[str]:
    config, naming = description.config, description.naming
    network, front_end = config.network, config.front_end
    sizes = ", ".join(f"{size} {value}" for size, value in network.sizes.items())
    parameters = registry.parameters(registry.sketch(network))
    rows = [
        ("Language", naming.language),
        ("Author", naming.author),
        ("License", naming.license),
        ("Network", f"{network.name}: {sizes}; {parameters:,} parameters"),
        ("Trained for", _steps(description.checkpoint_step)),
        ("Alphabet", f"`{config.alphabet}`, and the blank"),
        ("Phones", f"`{''.join(network.phones[1:-1])}`" if network.phones else ""),
        (
            "Audio",
            f"{front_end.sample_rate} Hz, mono; {front_end.features}, {front_end.bins} values "
            f"every {1000 * front_end.step_seconds:g} ms, normalised over: "
            f"{front_end.normalisation}",
        ),
    ]
    return [
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {_cell(what)} |" for name, what in rows if what),
    ]


def _cell(text: str) -> str:
    """Formats a text for a cell of a table, on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def _training(description: Description, data: ShardSet | None) -> list[str]:
    training = description.config.training
    lines = []
    if data is None:
        lines.append("Unknown: export.py --train_data=... reads it from the shards' index.")
    else:
        index = data.index
        copies = " with augmented copies" if index.settings.copies.augmented_copies else ""
        lines.append(
            f"`{data.pattern}`: {index.records:,} utterances{copies}, "
            f"{index.audio_seconds / 3600:.2f} hours."
        )
    if not description.checkpoint_step:
        return lines
    augment = ", ".join(f"`{each}`" for each in training.augment) or "none"
    lines.append(
        f"Batches of {training.train_batch_size}, learning rate {training.learning_rate:g} "
        f"({training.learning_rate_schedule}), dropout {training.dropout:g}; augmentation in "
        f"training: {augment}."
    )
    return lines


def _steps(steps: int) -> str:
    return f"{steps:,} steps" if steps else "unknown: it was imported, or not trained yet"


def _rates(forms: Sequence[Form], test: ShardSet | None, rates: Mapping[str, Rates]) -> list[str]:
    if test is None:
        rows = [f"| {form.name} | {form.bytes / 1e6:.2f} MB |" for form in forms]
        return [
            "Not measured: export.py --test_data=... measures them.",
            "",
            "| form | size |",
            "| --- | --- |",
            *rows,
        ]
    seconds = test.index.audio_seconds
    lines = [
        f"On `{test.pattern}`: {test.index.records:,} utterances, {seconds / 60:.1f} minutes.",
        "",
        "| form | size | WER | CER | best path: WER | CER | other hypotheses | real-time factor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for form in forms:
        own = rates[form.name]
        lines.append(
            f"| {form.name} | {form.bytes / 1e6:.2f} MB | {own.wer:.2%} | {own.cer:.2%} "
            f"| {own.greedy_wer:.2%} | {own.greedy_cer:.2%} | {own.changed} of {own.utterances} "
            f"| {own.real_time_factor:.3f} |"
        )
    lines += [
        "",
        "WER and CER: by beam search without a language model, and by best path. Other hypotheses:",
        "those that differ from the checkpoint's. The checkpoint's size includes the optimizer's",
        "variables. Real-time factor: of the network alone, one utterance at a time.",
    ]
    return lines


def _use(description: Description, forms: Sequence[Form]) -> list[str]:
    path = next((form.path for form in forms if form.path), "model.tflite")
    lines = [
        "In the project that wrote this page, with this folder's path before the model's:",
        "",
        "```",
        f"python transcribe.py --model={path} --scorer=kenlm.scorer --audio=x.wav",
        f"python serve.py --models={path} --scorers=kenlm.scorer",
        "```",
        "",
        "From this folder, with that project on `PYTHONPATH`:",
        "",
        "```python",
        "from speech.audio.reader import read_audio",
        "from speech.decoding.beam_search import greedy_decode",
        "from speech.export.loading import load",
        "",
        f'model = load("{path}")',
        "config = model.description.config",
        'samples = read_audio("x.wav", config.front_end.sample_rate)',
        "print(greedy_decode(model.of_samples(samples), config.alphabet))",
        "```",
    ]
    served = next((form.path for form in forms if form.name == "saved_model"), None)
    if served:
        rate = description.config.front_end.sample_rate
        lines += [
            "",
            f"With TensorFlow Serving, which takes samples (at int16 scale and {rate} Hz) and "
            "returns log-probabilities:",
            "",
            "```",
            "docker run -p 8501:8501 -e MODEL_NAME=speech "
            f'-v "$PWD/{served}:/models/speech/1" tensorflow/serving',
            "curl http://localhost:8501/v1/models/speech:predict -d "
            '\'{"inputs": {"samples": [[0, 12, -7]], "sample_length": [3]}}\'',
            "```",
        ]
    return lines
