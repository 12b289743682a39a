"""T2I-CompBench's BLIP-VQA: are the things of the prompt there, each with its own attributes?"""
