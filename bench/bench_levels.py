"""What sound levels cost: processor time of the meter by seconds of sound, fed in twentieths of a second.

python bench/bench_levels.py [--minutes 3]
"""

import argparse
import time

import numpy as np

from clapedge.audio import SAMPLE_RATE
from clapedge.live.sound_levels import SoundLevelMeter


def main() -> None:
    """Print the share of a core."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="of noise")
    seconds = 60 * parser.parse_args().minutes
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
    meter, step = SoundLevelMeter(), SAMPLE_RATE // 20
    meter.push(samples[:SAMPLE_RATE])  # designs the filter
    began = time.process_time()
    for first in range(0, len(samples), step):
        meter.push(samples[first : first + step])
    print(f"{(time.process_time() - began) / seconds:.2%} of a core")


if __name__ == "__main__":
    main()
