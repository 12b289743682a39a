"""Images from anywhere: which prompt each belongs to."""

from __future__ import annotations

import csv
import json

import pytest
from folders_by_hand import save

from soar_bench.core.errors import SoarBenchError
from soar_bench.scoring.folders import open_folder


def write_csv(file, header, *rows, delimiter=","):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return file


def write_jsonl(file, *records):
    file.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")
    return file


def geneval(folder, number, prompt, samples, **record):
    place = folder / f"{number:05d}"
    place.mkdir(parents=True)
    record = {"tag": "counting", "include": [{"class": "star", "count": 2}], **record}
    (place / "metadata.jsonl").write_text(json.dumps({**record, "prompt": prompt}), "utf-8")
    for index in range(samples):
        save(place / "samples" / f"{index:04d}.png", seed=10 * number + index)
    return place


def as_table(images):
    """What was read, as plain values: (prompt id, index, text, metadata, file)."""
    return [
        (s.prompt.id, s.index, s.prompt.text, dict(s.prompt.metadata), file)
        for s, file in zip(images.samples, images.files, strict=True)
    ]


# Layouts


def test_genevals_layout_gives_each_folders_record_to_its_samples(tmp_path):
    geneval(tmp_path, 0, "two stars", 2)
    geneval(
        tmp_path, 1, "a cross", 2, tag="single_object", include=[{"class": "cross", "count": 1}]
    )
    save(tmp_path / "00000" / "grid.png")
    two = {"tag": "counting", "include": [{"class": "star", "count": 2}]}
    one = {"tag": "single_object", "include": [{"class": "cross", "count": 1}]}
    assert as_table(open_folder(tmp_path)) == [
        ("00000", 0, "two stars", two, "00000/samples/0000.png"),
        ("00001", 0, "a cross", one, "00001/samples/0000.png"),
        ("00000", 1, "two stars", two, "00000/samples/0001.png"),
        ("00001", 1, "a cross", one, "00001/samples/0001.png"),
    ]


@pytest.mark.parametrize(
    "columns",
    [("file", "prompt"), ("file_name", "text"), ("image", "prompt"), ("path", "text")],
)
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "prompts.csv", "prompts.tsv"])
def test_a_list_in_the_folder_is_found_whatever_its_columns_are_called(tmp_path, name, columns):
    save(tmp_path / "a.png")
    save(tmp_path / "deep" / "b.webp", seed=1)
    rows = [("a.png", "a star", "x"), ("deep/b.webp", 'a sign saying "HI, YOU"', "y")]
    header = (*columns, "style")
    if name.endswith(".jsonl"):
        write_jsonl(tmp_path / name, *(dict(zip(header, row, strict=True)) for row in rows))
    else:
        write_csv(tmp_path / name, header, *rows, delimiter="\t" if name.endswith(".tsv") else ",")
    images = open_folder(tmp_path)
    got = sorted((file, text, metadata) for _, _, text, metadata, file in as_table(images))
    assert got == [
        ("a.png", "a star", {"style": "x"}),
        ("deep/b.webp", 'a sign saying "HI, YOU"', {"style": "y"}),
    ]
    assert images.layout == name


def test_a_list_elsewhere_names_files_relative_to_the_folder(tmp_path):
    save(tmp_path / "images" / "a.png")
    listed = write_csv(tmp_path / "mine.csv", ("file", "prompt"), ("a.png", "a star"))
    assert open_folder(tmp_path / "images", listed).files == ("a.png",)


def test_id_index_and_metadata_come_from_their_columns(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.png")
    include = [{"class": "star", "count": 1}]
    write_jsonl(
        tmp_path / "metadata.jsonl",
        {"file": "b.png", "prompt": "a star", "id": 7, "index": 1, "include": include},
        {"file": "a.png", "prompt": "a star", "id": 7, "index": 0, "include": include},
    )
    assert as_table(open_folder(tmp_path)) == [
        ("7", 0, "a star", {"include": include}, "a.png"),
        ("7", 1, "a star", {"include": include}, "b.png"),
    ]


def test_a_cell_of_a_table_that_is_json_is_read_as_json_and_an_empty_one_is_absent(tmp_path):
    save(tmp_path / "a.png")
    write_csv(
        tmp_path / "metadata.csv",
        ("", "file", "prompt", "include", "exclude", "note", "index"),
        ("0", "a.png", "a star", '[{"class": "star", "count": 1}]', "", "{not json", "3"),
    )
    (row,) = as_table(open_folder(tmp_path))
    assert row[1] == 3
    assert row[3] == {"include": [{"class": "star", "count": 1}], "note": "{not json"}


def test_images_of_one_text_are_of_one_prompt_wherever_they_are_listed(tmp_path):
    for folder, names in (("one", "abc"), ("two", "cab")):
        for name in names:
            save(tmp_path / folder / f"{name}.png")
        texts = {"a": "a star", "b": "a ring", "c": "a star"}
        write_csv(
            tmp_path / folder / "prompts.csv",
            ("file", "prompt"),
            *((f"{name}.png", texts[name]) for name in names),
        )
    one, two = open_folder(tmp_path / "one"), open_folder(tmp_path / "two")
    assert len(one.prompts) == 2
    assert [s.index for s in one.samples] == [0, 0, 1]
    assert one.digest() == two.digest()
    assert [s.prompt.id for s in one.samples] == [s.prompt.id for s in two.samples]


def test_texts_beside_images_are_their_prompts(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "deep" / "b.jpg")
    (tmp_path / "a.txt").write_text("a star\n")
    (tmp_path / "deep" / "b.txt").write_text("a ring")
    got = {file: text for _, _, text, _, file in as_table(open_folder(tmp_path))}
    assert got == {"a.png": "a star", "deep/b.jpg": "a ring"}


def test_hidden_files_and_other_files_are_no_images(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a star")
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.png").write_bytes(b"")
    (tmp_path / "settings.json").write_text("{}")
    assert open_folder(tmp_path).files == ("a.png",)


# What is refused


def refused(folder, *words, prompts=None):
    with pytest.raises(SoarBenchError) as caught:
        open_folder(folder, prompts)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_folder_without_images_or_without_prompts_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "no folder of images at", "nowhere")
    refused(tmp_path, "holds no images (PNG, JPEG, WebP or BMP)")
    save(tmp_path / "a.png")
    refused(tmp_path, "1 images and nothing that says their prompts", "--prompts FILE", "NAME.txt")
    refused(tmp_path, "no list of prompts at", prompts=tmp_path / "absent.csv")
    refused(tmp_path / "a.png", "no folder of images at")
    (tmp_path / "list.xlsx").write_text("")
    refused(tmp_path, "list.xlsx", ".csv, .tsv or .jsonl", prompts=tmp_path / "list.xlsx")
    write_csv(tmp_path / "metadata.csv", ("file", "prompt"), ("a.png", "a star"))
    write_csv(tmp_path / "prompts.csv", ("file", "prompt"), ("a.png", "a ring"))
    refused(tmp_path, "more than one list", "metadata.csv, prompts.csv", "--prompts")
    assert open_folder(tmp_path, tmp_path / "prompts.csv").prompts[0].text == "a ring"


def test_images_without_a_row_and_rows_without_an_image_are_counted_and_five_named(tmp_path):
    for number in range(8):
        save(tmp_path / f"{number}.png")
    write_csv(tmp_path / "prompts.csv", ("file", "prompt"), ("0.png", "a star"))
    refused(
        tmp_path, "7 of 8 images", "have no prompt: 1.png, 2.png, 3.png, 4.png, 5.png and 2 more"
    )
    rows = [(f"{number}.png", "a star") for number in range(10)]
    write_csv(tmp_path / "prompts.csv", ("file", "prompt"), *rows)
    refused(tmp_path, "2 of 10 rows have no image", "8.png, 9.png")


def test_an_image_of_a_kind_that_is_not_read_is_not_passed_over(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.gif")
    write_csv(tmp_path / "prompts.csv", ("file", "prompt"), ("a.png", "a star"))
    refused(tmp_path, "1 of 2 images", "b.gif")


def test_no_path_leaves_the_folder(tmp_path):
    outside = save(tmp_path / "outside.png")
    inside = tmp_path / "in"
    save(inside / "a.png")
    (inside / "link.png").symlink_to(outside)
    for name in (str(outside), "../outside.png", "x/../../outside.png", "link.png", "a\0.png"):
        write_jsonl(inside / "metadata.jsonl", {"file": name, "prompt": "a star"})
        refused(inside, "line 1 names", "leaves")
    (inside / "link.png").unlink()
    (inside / "more").symlink_to(tmp_path, target_is_directory=True)
    refused(inside, "more is a link to a folder")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], ["line 1 is not JSON"]),
        (["", "[1]"], ["line 2 must be one JSON object, such as {\"name\": \"value\"}; it is [1]"]),
        (['{"file": "a.png"}'], ["line 1 has no prompt (also read: text); it has file"]),
        (['{"prompt": "x"}'], ["line 1 has no file (also read: file_name, image, path)"]),
        (['{"file": "a.png", "prompt": " "}'], ["line 1 has no text in prompt"]),
        (['{"file": "a.png", "prompt": 3}'], ["line 1 has no text in prompt"]),
        (['{"file": 1, "prompt": "x"}'], ["line 1 has no text in file"]),
        (['{"file": "a.png", "prompt": "x", "index": -1}'], ["index", "-1"]),
        (['{"file": "a.png", "prompt": "x", "index": "1.5"}'], ["index", "'1.5'"]),
        (['{"file": "a.png", "prompt": "x", "index": true}'], ["index", "True"]),
        (['{"file": "a.png", "prompt": "x", "id": 1.5}'], ["id must be", "1.5"]),
        (['{"file": "a.png", "prompt": "x", "loss": NaN}'], ["line 1 is not JSON"]),
        (['{"file": "a.png", "prompt": "\\ud800"}'], ["line 1 is not JSON"]),
        (['{"file": "a.png", "prompt": "x"}'] * 2, ["line 2", "line 1 has named already"]),
        (
            ['{"file": "a.png", "prompt": "x"}', '{"file": "./a.png", "prompt": "y"}'],
            ["line 2 names './a.png'", "line 1 has named already"],
        ),
        (
            [
                '{"file": "a.png", "prompt": "x", "id": 1}',
                '{"file": "b.png", "prompt": "y", "id": 1}',
            ],
            ["line 1 and", "line 2 have one id '1' and two texts"],
        ),
        (
            [
                '{"file": "a.png", "prompt": "x", "s": 1}',
                '{"file": "b.png", "prompt": "x", "s": 2}',
            ],
            ["of one prompt but differ in s", "id of its own"],
        ),
        (
            [
                '{"file": "a.png", "prompt": "x", "index": 0}',
                '{"file": "b.png", "prompt": "x", "index": 0}',
            ],
            ["a.png and b.png", "both image 0"],
        ),
        (
            ['{"file": "a.png", "prompt": "x", "id": 1}', '{"file": "b.png", "prompt": "y"}'],
            ["line 2 has no id, as others have"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_jsonl_is_said_with_its_line(tmp_path, lines, words):
    for name in "ab":
        save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    refused(tmp_path, *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file;prompt\na.png;x\n", ["line 2 has no file", "it has file;prompt"]),
        ("file,prompt\na.png,a star, a ring\n", ["line 2 has 3 cells where the header has 2"]),
        ("file,prompt\na.png\n", ["line 2 has 1 cells"]),
        ("file,file,prompt\na.png,a.png,x\n", ["line 1 has more than one column file"]),
        ('file,prompt\na.png,"x\n', ["prompts.csv, line 2"]),
        ("file,prompt\na.png,\n", ["line 2 has no prompt"]),
        (b"file,prompt\na.png,\xff\n", ["prompts.csv, line 2 is not UTF-8 text"]),
        ("file,prompt\n", ["1 of 1 images", "have no prompt"]),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_line(tmp_path, text, words):
    save(tmp_path / "a.png")
    (tmp_path / "prompts.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(tmp_path, *words)


def test_a_table_as_spreadsheets_write_it_is_read(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "prompts.csv").write_bytes('\ufefffile,prompt\r\na.png,"é, \u2028x"\r\n'.encode())
    assert open_folder(tmp_path).prompts[0].text == "é, \u2028x"


def test_what_is_wrong_in_genevals_layout_is_said_with_its_folder(tmp_path):
    place = geneval(tmp_path, 0, "two stars", 1)
    geneval(tmp_path, 1, "two rings", 1)
    record = (place / "metadata.jsonl").read_text()

    (place / "metadata.jsonl").write_text(record + "\n" + record)
    refused(tmp_path, "00000/metadata.jsonl must hold one line of JSON; it has 2")
    (place / "metadata.jsonl").write_text("{")
    refused(tmp_path, "00000/metadata.jsonl, line 1 is not JSON")
    (place / "metadata.jsonl").write_text('{"tag": "counting"}')
    refused(tmp_path, "00000/metadata.jsonl has no text in prompt")
    for broken in (
        '{"prompt": "x"}',
        '{"prompt": "x", "tag": "colors", "include": "star"}',
        '{"prompt": "x", "tag": "colors", "include": [{"class": "star"}]}',
    ):
        (place / "metadata.jsonl").write_text(broken)
        refused(tmp_path, "00000/metadata.jsonl is no GenEval record")
    (place / "metadata.jsonl").unlink()
    refused(tmp_path, "1 of 2 images", "have no prompt: 00000/samples/0000.png")
    (place / "metadata.jsonl").write_text(record)

    final = save(place / "samples" / "final.png")
    refused(tmp_path, "final.png is not named by its number")
    final.rename(place / "samples" / "0.png")
    refused(tmp_path, "both image 0 of the prompt 00000")
    for file in (place / "samples").iterdir():
        file.unlink()
    refused(tmp_path, "00000/samples holds no images")


def test_what_is_wrong_with_texts_beside_images_is_said(tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    (tmp_path / "a.txt").write_text("a star")
    refused(tmp_path, "1 images", "no .txt with their prompt: b.png")
    (tmp_path / "b.txt").write_text(" \n")
    refused(tmp_path, "b.txt is empty")
    (tmp_path / "b.txt").write_text("a ring")
    (tmp_path / "c.txt").write_text("a cross")
    refused(tmp_path, "1 texts", "have no image: c.txt")
    (tmp_path / "c.txt").unlink()
    save(tmp_path / "b.jpg")
    refused(tmp_path, "b.jpg and b.png", "share b.txt")


def test_no_text_is_read_through_a_link_out_of_the_folder(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"prompt": "a secret", "tag": "x", "file": "a.png"}')
    for layout, link in (
        ("beside", "a.txt"),
        ("list", "metadata.jsonl"),
        ("geneval", "00000/metadata.jsonl"),
    ):
        folder = tmp_path / layout
        (folder / "00000" / "samples").mkdir(parents=True)
        save(folder / ("00000/samples/0000.png" if layout == "geneval" else "a.png"))
        (folder / link).symlink_to(secret)
        with pytest.raises(SoarBenchError, match=rf"{link} is a link out of .*{layout}"):
            open_folder(folder)


def test_a_circle_of_links_or_too_long_a_name_is_no_image(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("b.png")
    (tmp_path / "metadata.csv").write_text("file,prompt\na.png,x\n")
    with pytest.raises(SoarBenchError, match=r"1 of 2 images .* have no prompt: b\.png"):
        open_folder(tmp_path)
    (tmp_path / "metadata.csv").write_text(f"file,prompt\na.png,x\n{'b' * 3000}.png,x\n")
    with pytest.raises(SoarBenchError, match="1 of 2 rows have no image"):
        open_folder(tmp_path)


@pytest.mark.parametrize("digits", [30, 5000])
def test_an_index_that_no_column_holds_is_refused_with_its_line(digits, tmp_path):
    save(tmp_path / "a.png")
    rows = ["file,prompt,id,index", f"a.png,x,1,{'9' * digits}"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    with pytest.raises(SoarBenchError, match="line 2: index must be a whole number from 0"):
        open_folder(tmp_path)
