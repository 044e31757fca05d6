# SPDX-License-Identifier: Apache-2.0
"""A SentencePiece model whose every token is a word of four letters, so that any sequence of tokens has a text.

Programs that read text and programs that take token ids then work on the same tokens, and no tokenizer needs a download.
"""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = 3  # <pad>, </s>, <unk>
CONTROL, UNKNOWN, NORMAL = 3, 2, 1  # SentencePiece's types of pieces


def word(token):
    letters = ""
    for _ in range(4):
        token, letter = divmod(token, len(LETTERS))
        letters += LETTERS[letter]
    return letters


def text_of(tokens):
    """The text of tokens from SPECIAL to the model's last one; without </s>, which every reader of text adds."""
    return " ".join(map(word, tokens))


def varint(number):
    groups = []
    while True:
        groups.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(groups)


def field(number, value):
    """A field of a protocol buffer: a number, or bytes with their length in front."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text, kind):
    score = varint(2 << 3 | 5) + b"\0\0\0\0"
    return field(1, field(1, text.encode()) + score + field(3, kind))


def write_tokenizer(path, pieces):
    """`pieces` counts <pad>, </s> and <unk>. Fields as in sentencepiece_model.proto."""
    unigram, identity = 1, b"identity"
    model = piece("<pad>", CONTROL) + piece("</s>", CONTROL) + piece("<unk>", UNKNOWN)
    model += b"".join(piece("\u2581" + word(token), NORMAL) for token in range(SPECIAL, pieces))
    ids = field(40, 2) + field(42, 1) + field(43, 0)  # <unk>, </s>, <pad>; there is no <s>
    model += field(2, field(3, unigram) + field(4, pieces) + ids)
    model += field(3, field(1, identity))
    path.write_bytes(model)
