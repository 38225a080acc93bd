#!/bin/sh
# Trains a recogniser of Arabic commands to a mirror from Mozilla DeepSpeech's CSV in a few minutes,
# evaluates it on unknown sentences and transcribes a recording.
#
#   sh examples/commands/ar.sh [FOLDER]
#
# Run it in the project's folder and environment (README.md); it writes everything to FOLDER.
# The variables SPEAKING and TRAINING may contain more flags for the two long steps.
set -e
there=${1:-demo/commands-ar}
DEEP_SPEECH_REPORT_DIR="$there/report"
export DEEP_SPEECH_REPORT_DIR

# 1. The recordings. Harakat, the signs of short vowels, define the pronunciation for the voices.
python examples/spoken_commands.py --sentences=examples/commands/ar.txt --language=ar \
    --corpus_dir="$there/corpus" --train_utterances=2000 --dev_utterances=100 --test_utterances=200 $SPEAKING

# 2. The three sets. Harakat, which nobody writes, and punctuation are removed from the transcripts.
prepare() {
    python prepare_csv.py --train_files="$there/corpus/train.csv" --dev_files="$there/corpus/dev.csv" \
        --test_files="$there/corpus/test.csv" --language=ar --strip_diacritics \
        --max_sequence_length=800 --max_label_length=100 "$@"
}
prepare --make_alphabet --alphabet="$there/alphabet.txt"
prepare --alphabet="$there/alphabet.txt" --check
prepare --alphabet="$there/alphabet.txt" --tfrecords_dir="$there/shards"

# 3. A language model of the training sentences. (--exclude_txt with the test set would leave out most
#    of them: sentences of so few words share long runs.)
python build_lm.py --input_txt="$there/corpus/train.csv" --language=ar --strip_diacritics \
    --alphabet="$there/alphabet.txt" --discount_fallback --output_dir="$there/lm"

# 4. Training and evaluation.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --model_dir="$there/model" --network=conv_gru --conv_channels=128 --recurrent_unit_size=96 --stride_size=3 \
    --train_batch_size=16 --max_epochs=8 --eval_steps=125 --early_stop --es_epochs=2 \
    --learning_rate=2e-3 --learning_rate_decay_factor=0.7 --clip_gradients=50 $TRAINING
python eval.py --model_dir="$there/model" --test_data="$there/shards/test.tfrecords.*" \
    --scorer="$there/lm/kenlm.scorer" --report_dir="$there/report" --audio="$there/corpus"

# 5. The model as a file for small machines, and its transcript of a test recording.
python export.py --model_dir="$there/model" --export_dir="$there/export" --formats=tflite
python transcribe.py --model="$there/export/model.tflite" --scorer="$there/lm/kenlm.scorer" \
    --audio="$there/corpus/wav/test-0001.wav"
