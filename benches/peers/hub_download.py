"""The weights file of a model by `huggingface_hub`, from HF_ENDPOINT into a folder.

    python hub_download.py org/name folder
"""

import sys

import huggingface_hub

model, folder = sys.argv[1:]
print(huggingface_hub.hf_hub_download(model, "model.safetensors", local_dir=folder))
