// SPDX-License-Identifier: Apache-2.0
#include "identity/certificate.h"
