"""``python -m soar_bench``, for launchers such as ``torchrun`` and ``accelerate launch``."""

from soar_bench.core.packages import put_current_folder_last

put_current_folder_last()

from soar_bench.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
