// SPDX-License-Identifier: Apache-2.0
#include "identity/workload_api_client.h"
