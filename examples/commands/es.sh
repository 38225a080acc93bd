#!/bin/sh
# Commands to a mirror in Spanish, from a folder of numbered recordings to a word error rate on
# sentences that nobody said in training, and to what it hears in one, in a few minutes.
#
#   sh examples/commands/es.sh [FOLDER]
#
# In the project's folder, in an environment that has it (README.md); everything is made in FOLDER.
# More flags for its two long steps can be given in the variables SPEAKING and TRAINING.
set -e
there=${1:-demo/commands-es}
DEEP_SPEECH_REPORT_DIR="$there/report"
export DEEP_SPEECH_REPORT_DIR

# 1. The recordings: SPEAKER_TAKE_ID.wav, and in commands.csv what each id says. The sentences in
#    unseen/ are not in known/.
python examples/spoken_commands.py --sentences=examples/commands/es.txt --language=es --layout=commands \
    --corpus_dir="$there/corpus" --train_utterances=2000 --dev_utterances=100 --test_utterances=200 $SPEAKING

# 2. Training and development set, which share no speaker, and the test set; the alphabet is that of
#    Spanish. Capitals, commas and the inverted question mark go, ñ and the accents stay.
prepare() {
    python prepare_csv.py --language=es --tfrecords_dir="$there/shards" --max_sequence_length=750 \
        --max_label_length=100 "$@"
}
prepare --files_path="$there/corpus/known" --split=90/10/0 --check
DEEP_SPEECH_REPORT_DIR="$there/report/unseen" prepare --test_files="$there/corpus/unseen" --check
prepare --files_path="$there/corpus/known" --split=90/10/0
prepare --test_files="$there/corpus/unseen"

# 3. A language model of the commands in known/.
python build_lm.py --input_txt="$there/corpus/known/commands.csv" --language=es --discount_fallback \
    --output_dir="$there/lm"

# 4. Training and test.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --model_dir="$there/model" --network=conv_gru --conv_channels=128 --recurrent_unit_size=96 --stride_size=3 \
    --train_batch_size=16 --max_epochs=8 --eval_steps=125 --early_stop --es_epochs=2 \
    --learning_rate=2e-3 --learning_rate_decay_factor=0.7 --clip_gradients=50 $TRAINING
python eval.py --model_dir="$there/model" --test_data="$there/shards/test.tfrecords.*" \
    --scorer="$there/lm/kenlm.scorer" --report_dir="$there/report" --audio="$there/corpus/unseen"

# 5. The model as a file for small machines, and what it hears in one of the test's recordings.
python export.py --model_dir="$there/model" --export_dir="$there/export" --formats=tflite
python transcribe.py --model="$there/export/model.tflite" --scorer="$there/lm/kenlm.scorer" \
    --audio="$(ls "$there"/corpus/unseen/*.wav | head -n 1)"
