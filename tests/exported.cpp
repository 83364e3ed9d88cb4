// Calls an exported policy from C++. Returns how many actions differ from those of the test vectors.
#include "policy.h"

int main()
{
    int failed = 0;
    for (int v = 0; v < POLICY_TEST_VECTORS; ++v) {
        float action[POLICY_ACTIONS];
        policy_act(policy_test_observations[v], action);
        for (int i = 0; i < POLICY_ACTIONS; ++i) {
            const float difference = action[i] - policy_test_actions[v][i];
            failed += !(-1e-4f < difference && difference < 1e-4f);
        }
    }
    float largest = 1.0f;
    return failed + policy_self_check(&largest) + !(largest < 1e-5f);
}
