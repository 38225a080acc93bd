#!/bin/sh
# Fine-tunes a model to the people whose takes serve.py --recordings has stored.
#
#   sh examples/own_voice/own_voice.sh RECORDINGS MODEL FOLDER
#
# Run it in the project's folder and environment (README.md). MODEL is a model directory that is
# trained with the default features; FOLDER gets everything that is written. The variable TRAINING may
# contain more flags for training.
set -e
recordings=$1 model=$2 there=$3
test -n "$there" || { echo 'usage: own_voice.sh RECORDINGS MODEL FOLDER' >&2; exit 2; }

# 1. The usable takes as a CSV, then three sets that share no sentence: with few speakers, none of
#    them can be left to one set.
python prepare_csv.py --format=recordings --files_path="$recordings" --write_csv="$there/csv"
python examples/own_voice/split_sentences.py --csv_file="$there/csv/$(basename "$recordings").csv" --output_dir="$there/sets"

# 2. Shards.
python prepare_csv.py --train_files="$there/sets/train.csv" --dev_files="$there/sets/dev.csv" \
    --test_files="$there/sets/test.csv" --language=en --nopad --tfrecords_dir="$there/shards"

# 3. Before: the given model on the sentences that aren't trained on.
python eval.py --model_dir="$model" --test_data="$there/shards/test.tfrecords.*" --report_dir="$there/before"

# 4. Fine-tuning, in minutes: it begins with all variables of the model, and the best checkpoint on
#    the development set is kept.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --model_dir="$there/model" --init_checkpoint="$model" --train_batch_size=8 --max_epochs=30 --eval_steps=20 \
    --early_stop --es_epochs=5 --learning_rate=1e-3 --clip_gradients=50 \
    --augment='frequency_mask[size=4~4]' --augment='time_mask[size=20~20]' $TRAINING

# 5. After: the tuned model on the same sentences.
python eval.py --model_dir="$there/model" --checkpoint=best --test_data="$there/shards/test.tfrecords.*" \
    --report_dir="$there/after" --compare="$there/before/summary.json"

# 6. A file for serve.py --models. A running server takes it at SIGHUP: kill -HUP its process.
python export.py --model_dir="$there/model" --export_dir="$there/export" --formats=tflite
echo "Serve it: python serve.py --models=$there/export/model.tflite --recordings=$recordings"
