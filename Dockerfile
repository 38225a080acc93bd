# The images that train and that serve; docs/deployment.md says how they are used.
#
#   docker build --target train --tag deep-speech:train .
#   docker build --target serve --tag deep-speech:serve .
#
# With an Nvidia GPU: --build-arg TENSORFLOW=gpu. Packages are setup.cfg's, with its versions.

FROM python:3.11-slim-bookworm AS base
# Any user can run it: what is written beside /opt/ml goes to /tmp, and what numba compiles to a
# folder of its own, which may be a volume.
ENV PATH=/opt/program/sagemaker:/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/var/cache/numba
RUN useradd --uid 1000 --no-create-home speech \
    && install --directory --owner=speech --group=speech /opt/ml /opt/ml/model /opt/ml/output \
    && install --directory --mode=1777 /var/cache/numba

# Everything that installs stays behind in these stages: the images get its outcome alone.
FROM python:3.11-slim-bookworm AS pins
WORKDIR /build
COPY setup.cfg ./
RUN python -m venv --without-pip /opt/venv
# The lines of setup.cfg that some extras ask for.
RUN echo "import configparser, sys; found = configparser.RawConfigParser(); \
found.read('setup.cfg'); print(found['options']['install_requires'], \
*(found['options.extras_require'][each] for each in sys.argv[1:]))" > pins.py

FROM pins AS train-packages
ARG TENSORFLOW=cpu
RUN python pins.py ${TENSORFLOW} ffmpeg numbers > pins.txt
RUN pip --python /opt/venv install --no-cache-dir --requirement pins.txt

FROM pins AS serve-packages
ARG TENSORFLOW=cpu
RUN python pins.py ${TENSORFLOW} ffmpeg serve > pins.txt
RUN pip --python /opt/venv install --no-cache-dir --requirement pins.txt

# SageMaker starts it with `train`; without it, any door: docker run IMAGE python training.py --help
FROM base AS train
COPY --from=train-packages /opt/venv /opt/venv
COPY . /opt/program
WORKDIR /opt/program
RUN python -m compileall -q . && python -m speech.decoding.precompile && chmod -R a+rwX /var/cache/numba
# SageMaker wants root, with whose rights it lays its folder: --build-arg RUN_AS=root.
ARG RUN_AS=speech
USER ${RUN_AS}
CMD ["train"]

# SageMaker starts it with `serve`; the model is what lies in /opt/ml/model.
FROM base AS serve
COPY --from=serve-packages /opt/venv /opt/venv
COPY . /opt/program
WORKDIR /opt/program
RUN python -m compileall -q . && python -m speech.decoding.precompile && chmod -R a+rwX /var/cache/numba
ARG RUN_AS=speech
USER ${RUN_AS}
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ping', timeout=4)"]
CMD ["serve"]
