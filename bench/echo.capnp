# SPDX-License-Identifier: MIT
# What Cap'n Proto echoes.
@0xd9b2a6c4f1e83750;

interface Echoes {
  call @0 (data :Data) -> (data :Data);
}
