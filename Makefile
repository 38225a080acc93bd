# make demo   runs the whole pipeline, from a synthetic corpus to a word error rate; needs no data
# make examples   runs the tutorials in English, Spanish and Arabic
# make check   runs lint and the fast tests: in a minute, before each commit
# make test   runs lint and the tests
# make test-all   runs lint and all tests, also those that take minutes
# make test-estimator   runs the tests of TPUEstimator, with Python 3.11 and TensorFlow 2.15
# make check-tpu   compiles the training step for TPUs with check_tpu.py; takes half an hour
# make kenlm   compiles KenLM's programs, with which build_lm.py builds language models of any size
# make docs-flags   writes docs/flags.md from the definitions of the doors' flags
# make constraints   writes the newest versions that setup.cfg allows into constraints, for each Python
# make bench SPEECH=FOLDER   measures the numbers of docs/benchmarks.md on a folder of speech; decoders
#             read the output of MODEL=FOLDER for TEST=SHARDS, by default the demo's
#
# Each target first makes an environment in .venv, which needs Python 3.11 to 3.13 and a package index.

SUPPORTED = 3.13 3.12 3.11
# $(call find_python,VERSIONS): the first of them that runs; pyenv's also where they are not switched on.
find_python = $(shell for version in $(1); do \
	for python in python$$version $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python; do \
	"$$python" -c 'import venv, ensurepip' 2> /dev/null && echo "$$python" && exit; done; done)
# Override with make PYTHON=/path/to/python3.12.
PYTHON ?= $(call find_python,$(SUPPORTED))
VENV = .venv
RUN = $(VENV)/bin/python
# What the demo needs, and everything.
READY = $(VENV)/ready
INSTALLED = $(VENV)/installed
# The environment of the last TensorFlow with TPUEstimator; override with make ESTIMATOR_PYTHON=...
ESTIMATOR_PYTHON ?= $(call find_python,3.11)
ESTIMATOR_VENV = .venv-estimator
ESTIMATOR_RUN = $(ESTIMATOR_VENV)/bin/python
ESTIMATOR_INSTALLED = $(ESTIMATOR_VENV)/installed
# Prints the file with the tested versions of a Python's packages.
CONSTRAINTS = -c 'import sys; print("constraints/%d.%d.txt" % sys.version_info[:2])'
# The extras whose versions are in those files; of gpu only TensorFlow's is.
CONSTRAINED = cpu,tpu,demo,beam,ffmpeg,serve,microphone,numbers,bench,dev
# Folder of the demo; make demo DEMO=/elsewhere uses another one.
DEMO = demo
# KenLM's version in the package index, and the Debian packages that its compilation needs.
KENLM_VERSION = 0.3.0
KENLM_NEEDS = cmake make g++ libboost-program-options-dev libboost-system-dev libboost-thread-dev \
	libboost-test-dev
KENLM = .kenlm
# Additional flags for the demo's training, as in make demo DEMO=demo-bfloat16 TRAINING=--bfloat16.
TRAINING =
# The model and the shards that make bench decodes.
MODEL = $(DEMO)/model
TEST = $(DEMO)/shards/test.tfrecords.*

# Two test files at a time; most tests use one core.
SIDE_BY_SIDE = -n 2 --dist loadfile --no-loadscope-reorder

# The rooms whose tests neither train nor run doors, nearly all of them without TensorFlow.
FAST = $(addprefix tests/,audio corpora decoding evaluation features flags html language_model \
	shards text tuning test_docs.py test_text_rules.py test_utils.py)

.PHONY: check demo examples test test-all test-estimator check-tpu kenlm constraints \
	$(SUPPORTED:%=constraints/%) bench lint docs-flags clean

# Operations of so small a network run faster on one thread than shared by several.
demo: $(READY)
	$(RUN) examples/spoken_corpus.py --corpus_dir=$(DEMO)/corpus
	for set in train dev test; do $(RUN) prepare_libri.py --files_path=$(DEMO)/corpus/$$set \
		--tfrecords_file=$(DEMO)/shards/$$set.tfrecords --max_sequence_length=450 \
		--max_label_length=80 || exit 1; done
	TF_NUM_INTRAOP_THREADS=1 $(RUN) training.py --train_data='$(DEMO)/shards/train.tfrecords.*' \
		--dev_data='$(DEMO)/shards/dev.tfrecords.*' --model_dir=$(DEMO)/model \
		--conv_channels=8,16 --context_size=5 --stride_size=3 --recurrent_unit_size=128 \
		--train_batch_size=16 --max_epochs=9 --eval_steps=600 --learning_rate=5e-3 \
		--learning_rate_schedule=cosine --warmup_steps=50 --clip_gradients=50 \
		--augment='frequency_mask[size=4~4]' --augment='time_mask[size=30~30]' $(TRAINING)
	$(RUN) eval.py --model_dir=$(DEMO)/model --test_data='$(DEMO)/shards/test.tfrecords.*' \
		--report_dir=$(DEMO)/report

examples: $(READY)
	for language in en es ar; do PATH="$(abspath $(VENV))/bin:$$PATH" \
		sh examples/commands/$$language.sh "$(DEMO)/commands-$$language" || exit 1; done

check: lint
	$(RUN) -m pytest -n 2 -m 'not slow' --ignore=tests/decoding/test_compilation.py $(FAST)

test: lint
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m 'not slow'

test-all: lint
	$(RUN) -m pytest $(SIDE_BY_SIDE)

test-estimator: $(ESTIMATOR_INSTALLED)
	$(ESTIMATOR_RUN) -m pytest $(SIDE_BY_SIDE) -m 'estimator and not slow'

# Compiles the default network for one core of each TPU; a batch takes a minute or two.
check-tpu: $(INSTALLED)
	$(RUN) check_tpu.py --num_tpu_cores=1 --bfloat16 --train_batch_size=8,32,64

kenlm: $(KENLM)/bin/lmplz

# lmplz is copied last, so that it exists only if everything does.
$(KENLM)/bin/lmplz: | $(INSTALLED)
	rm -rf $(KENLM)
	mkdir -p $(KENLM)/source
	$(RUN) -m pip download --quiet --no-deps --no-binary kenlm --dest $(KENLM) kenlm==$(KENLM_VERSION)
	tar -xzf $(KENLM)/kenlm-$(KENLM_VERSION).tar.gz -C $(KENLM)/source --strip-components=1
	{ cmake -S $(KENLM)/source -B $(KENLM)/build -DCMAKE_BUILD_TYPE=Release && \
		cmake --build $(KENLM)/build --parallel $$(nproc) --target lmplz build_binary; } \
		> $(KENLM)/log 2>&1 || { tail -n 20 $(KENLM)/log; echo 'error: KenLM was not compiled, see' \
		'$(KENLM)/log. It needs Debian packages: sudo apt-get install $(KENLM_NEEDS)'; exit 1; }
	mkdir $(KENLM)/bin
	cp $(KENLM)/build/bin/build_binary $(KENLM)/build/bin/lmplz $(KENLM)/bin
	rm -rf $(KENLM)/source $(KENLM)/build

# Two of the other decoders have no wheels for newer Pythons than 3.11.
bench: RUN = $(ESTIMATOR_RUN)
bench: $(ESTIMATOR_INSTALLED)
	@test -n '$(SPEECH)' || { echo 'error: run make bench SPEECH=FOLDER, a folder in the layout of' \
		'LibriSpeech, such as data/LibriSpeech/dev-clean.'; exit 1; }
	$(RUN) benchmarks/prepare.py --files_path='$(SPEECH)'
	$(RUN) benchmarks/prepare_memory.py --files_path='$(SPEECH)'
	$(RUN) benchmarks/read.py --files_path='$(SPEECH)'
	$(RUN) benchmarks/step.py
	$(RUN) -m pip install --quiet --constraint "$$($(RUN) $(CONSTRAINTS))" --editable '.[cpu,bench]'
	$(RUN) benchmarks/decode.py --model_dir='$(MODEL)' --test_data='$(TEST)' \
		--input_txt='$(SPEECH)/**/*.trans.txt'
	$(RUN) benchmarks/realtime.py --files_path='$(SPEECH)'

lint: $(INSTALLED)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m codespell_lib *.md *.py Makefile setup.cfg docs speech deepspeech stt tests examples benchmarks sagemaker
	@if git rev-parse HEAD > /dev/null 2>&1; then $(RUN) -m md_dead_link_check; \
		else echo 'Links are not checked: this folder is not a git repository.'; fi
	$(RUN) docs/flags.py --check

docs-flags: $(INSTALLED)
	$(RUN) docs/flags.py

# Depend on the versions, so that an old environment is updated.
$(READY) $(INSTALLED): python = $(PYTHON)
$(READY) $(INSTALLED): supported = $(SUPPORTED)
$(ESTIMATOR_INSTALLED): python = $(ESTIMATOR_PYTHON)
$(ESTIMATOR_INSTALLED): supported = 3.11
$(READY): extras = cpu,demo
$(INSTALLED) $(ESTIMATOR_INSTALLED): extras = cpu,demo,dev
$(READY) $(INSTALLED) $(ESTIMATOR_INSTALLED): run = $(@D)/bin/python
$(READY) $(INSTALLED) $(ESTIMATOR_INSTALLED): setup.cfg $(wildcard constraints/*.txt)
	@test -n '$(python)' || { echo 'error: Python $(supported) (with venv) is missing. Install it,' \
		'or name it with make PYTHON=... (ESTIMATOR_PYTHON=... for make test-estimator).'; exit 1; }
	test -x $(run) || '$(python)' -m venv $(@D)
	@test -f "$$($(run) $(CONSTRAINTS))" || { echo "error: $(@D) has $$($(run) --version), which is not" \
		'one of $(SUPPORTED). Remove that folder.'; exit 1; }
	$(run) -m pip install --quiet --constraint "$$($(run) $(CONSTRAINTS))" --editable '.[$(extras)]'
	$(run) -m pip check
	$(run) -m speech.decoding.precompile
	touch $@

constraints: $(SUPPORTED:%=constraints/%)

# The package for GPUs has the version of the one without.
$(SUPPORTED:%=constraints/%): venv = .venv-constraints
$(SUPPORTED:%=constraints/%): constraints/%:
	$(call find_python,$*) -m venv --clear $(venv)
	$(venv)/bin/python -m pip install --quiet --editable '.[$(CONSTRAINED)]'
	$(venv)/bin/python -m pip check
	$(venv)/bin/python -m pip freeze --exclude-editable > $(venv)/freeze
	sed 's/^tensorflow[-_]cpu\(==.*\)/&\ntensorflow\1/' $(venv)/freeze > $@.txt
	rm -rf $(venv)

clean:
	rm -rf $(VENV) $(ESTIMATOR_VENV) .tpu-check .tpu-check.lock $(KENLM) demo
