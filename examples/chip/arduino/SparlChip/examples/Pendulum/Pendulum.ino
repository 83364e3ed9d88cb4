// Learn while a control loop runs at 50 Hz: each period reads the sensors, acts, stores the
// transition, and uses the rest of the period for learning. SPDX-License-Identifier: MIT-0
//
// Replace readSensors, rewardOf and applyTorque by those of your machine. A slice of learning must
// be shorter than MARGIN_US; measure it with micros() on your board.
#include <sparl_chip.h>

static sparl_chip chip;

static const unsigned long PERIOD_US = 20000;
static const unsigned long MARGIN_US = 1500;  // more than the longest slice
static const unsigned long EPISODE_STEPS = 200;

static float observation[SPARL_CHIP_OBSERVATIONS];
static float action[SPARL_CHIP_ACTIONS];
static unsigned long nextPeriod, steps;

static void readSensors(float *to) {
  to[0] = (float)analogRead(A0) / 512.0f - 1.0f;  // cosine of the angle
  to[1] = (float)analogRead(A1) / 512.0f - 1.0f;  // sine
  to[2] = (float)analogRead(A2) / 512.0f - 1.0f;  // speed
}

static float rewardOf(const float *o) {
  return o[0] - 0.1f * o[2] * o[2];
}

static void applyTorque(float torque) {  // in [-1, 1]
  analogWrite(3, (int)(127.5f * (torque + 1.0f)));
}

void setup() {
  Serial.begin(115200);
  sparl_chip_init(&chip, 1);
  readSensors(observation);
  sparl_chip_begin(&chip, observation);
  nextPeriod = micros() + PERIOD_US;
}

void loop() {
  if (sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLORE, action) != SPARL_CHIP_OK) {
    Serial.println("an observation is not finite");
  }
  applyTorque(action[0]);

  // Learn until the period is nearly over.
  while ((long)(nextPeriod - micros()) > (long)MARGIN_US) {
    const int code = sparl_chip_work(&chip, 1);
    if (code == SPARL_CHIP_UPDATED || code == SPARL_CHIP_WAITING) {
      break;  // at most one update per step
    }
    if (code == SPARL_CHIP_DIVERGED) {
      Serial.println("an update was abandoned");
      break;
    }
  }
  while ((long)(nextPeriod - micros()) > 0) {
  }
  nextPeriod += PERIOD_US;

  readSensors(observation);
  ++steps;
  const bool cut = steps % EPISODE_STEPS == 0;
  sparl_chip_store(&chip, action, rewardOf(observation), observation,
                   cut ? SPARL_CHIP_TIME_LIMIT : SPARL_CHIP_CONTINUES);
  if (cut) {
    sparl_chip_begin(&chip, observation);
  }
}
