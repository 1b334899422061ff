// SPDX-License-Identifier: Apache-2.0
#include "identity/token_verifier.h"
